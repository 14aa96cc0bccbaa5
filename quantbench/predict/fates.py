"""Fates of Q and DQ, from the steps of the simulation, as the same value that logs are read into."""

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.graph.view import GraphView
from quantbench.inspection.fate import Fate
from quantbench.predict.net import Net
from quantbench.predict.passes import cleanup, motions


def fates_of(net: Net, view: GraphView) -> tuple[Fate, ...]:
    """One Fate for every Q and DQ of `view` and every clone that the passes made."""
    ops = {n.name: ("Q" if n.op == QUANTIZE else "DQ") for n in view.nodes if n.op in (QUANTIZE, DEQUANTIZE)}
    state: dict[str, tuple[str, str, str]] = {}
    moves: dict[str, list[str]] = {}
    roots: dict[str, str] = {}
    for step in net.steps:
        if step.what in ("take-q", "take-dq", "take-residual", "inside"):
            for name in step.others:
                state[name] = ("fused", step.target, "")
        elif step.what == "merge" and step.name == motions.MERGE:
            for name in step.others:
                state[name] = ("merged", "", step.target)
        elif step.what == "split":
            state[step.others[0]] = ("split", "", "")
        elif step.what == "split-dq":
            state[step.target] = ("split", "", "")
        elif step.what == "swap":
            moves.setdefault(step.others[0], []).append(step.target)
        elif step.what == "copy" and step.name == "QDQToCopy":
            state[step.target] = ("left over", "", "")
        elif step.name == cleanup.DANGLING:
            state[step.others[0]] = ("folded", "", "")
        elif step.name == "ConstWeightsQuantizeFusion":
            state[step.others[0]] = ("folded", step.target, "")
        elif step.name == motions.MEET:
            state[step.target] = state[step.others[0]] = ("removed", "", "")
    for node in view.nodes:
        if node.op == DEQUANTIZE and node.name not in state and view.is_constant(node.inputs[0]):
            state[node.name] = ("folded", "", "")
    for name in [*state, *moves]:
        roots[name] = name.partition("_clone_")[0]
    home = {node: op.name for op in net.ops for node in op.nodes}
    return tuple(
        _fate(name, ops.get(name) or ops.get(roots.get(name, name), "Q"), roots.get(name, name), state, moves, home)
        for name in dict.fromkeys([*ops, *state])
        if name in ops or roots.get(name) in ops
    )


def _fate(name: str, op: str, root: str, state: dict[str, tuple[str, str, str]], moves: dict[str, list[str]],
          home: dict[str, str]) -> Fate:  # fmt: skip
    status, into, twin = state.get(name, ("removed", "", ""))
    engine = name if status == "left over" else ""
    if status in ("fused", "folded"):
        engine = _engine_layer(into, name, home)
    return Fate(name, op, root, status, into, twin, engine, tuple(moves.get(name, ())))


def _engine_layer(into: str, name: str, home: dict[str, str]) -> str:
    for part in (name, *into.replace("PWN(", "").replace(")", "").split(" + ")):
        if part in home:
            return home[part]
    return into
