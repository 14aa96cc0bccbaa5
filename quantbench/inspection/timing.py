"""trtexec's --exportTimes JSON: one entry an inference, in ms."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from quantbench.statistics import Stats, summarize

_FIGURES = (("latency", "latencyMs"), ("compute", "computeMs"), ("h2d", "h2dMs"), ("d2h", "d2hMs"),
            ("enqueue", ""))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statistics(Stats):
    """Times of one figure in ms, over `count` inferences."""

    count: int


def read_timing(data: Sequence[Any]) -> dict[str, Statistics]:
    """Statistics of latency, compute, h2d, d2h and enqueue; entries without numbers are left out.

    Percentiles are taken as trtexec takes them.
    """
    found: dict[str, Statistics] = {}
    for figure, key in _FIGURES:
        values = [_value(entry, key) for entry in data if isinstance(entry, Mapping)]
        times = [v for v in values if v is not None]
        if times:
            found[figure] = Statistics(**asdict(summarize(np.array(times))), count=len(times))
    return found


def _value(entry: Mapping[str, Any], key: str) -> float | None:
    value = entry.get(key)
    if not key:
        start, end = entry.get("startEnqMs"), entry.get("endEnqMs")
        numbers = isinstance(start, (int, float)) and isinstance(end, (int, float))
        value = end - start if numbers and start is not None and end is not None else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
