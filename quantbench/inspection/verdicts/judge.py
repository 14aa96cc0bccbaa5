"""All verdicts on an inspection."""

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts import (
    channels,
    depthwise,
    detail,
    float_layers,
    int8_in_float_out,
    leftover_qdq,
    memory,
    messages,
    placement,
    qdq_model,
    reformats,
    runner_up,
    scales,
    tensor_cores,
)
from quantbench.inspection.verdicts.verdict import Verdict

_RULES = (
    int8_in_float_out, leftover_qdq, scales, float_layers, reformats, channels, depthwise, tensor_cores, placement,
    messages, qdq_model, runner_up, memory, detail,
)  # fmt: skip
_ORDER = {"problem": 0, "cost": 1, "note": 2}


def judge(inspection: Inspection) -> tuple[Verdict, ...]:
    """Verdicts of all rules: problems first, then costs, then notes; within those the costliest first."""
    found = [verdict for rule in _RULES for verdict in rule.judge(inspection)]
    return tuple(sorted(found, key=lambda v: (_ORDER[v.severity], -(v.time_ms or 0.0))))
