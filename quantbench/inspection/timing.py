"""trtexec's --exportTimes JSON: one entry an inference, in ms."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_FIGURES = (("latency", "latencyMs"), ("compute", "computeMs"), ("h2d", "h2dMs"), ("d2h", "d2hMs"),
            ("enqueue", ""))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statistics:
    """Times of one figure in ms, over `count` inferences."""

    count: int
    min: float
    max: float
    mean: float
    median: float
    p90: float
    p95: float
    p99: float

    def to_json(self) -> dict[str, float]:
        """Plain data for `inspect.json`."""
        return {name: getattr(self, name) for name in self.__slots__}


def read_timing(data: Sequence[Any]) -> dict[str, Statistics]:
    """Statistics of latency, compute, h2d, d2h and enqueue; entries without numbers are left out.

    Percentile p is the value at index ceil(p * n) - 1 of the sorted times, as trtexec takes it (sampleReporting.cpp).
    """
    found: dict[str, Statistics] = {}
    for figure, key in _FIGURES:
        values = [_value(entry, key) for entry in data if isinstance(entry, Mapping)]
        times = sorted(v for v in values if v is not None)
        if times:
            found[figure] = _statistics(times)
    return found


def _value(entry: Mapping[str, Any], key: str) -> float | None:
    value = entry.get(key)
    if not key:
        start, end = entry.get("startEnqMs"), entry.get("endEnqMs")
        numbers = isinstance(start, (int, float)) and isinstance(end, (int, float))
        value = end - start if numbers and start is not None and end is not None else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _statistics(times: list[float]) -> Statistics:
    count = len(times)

    def at(percent: float) -> float:
        return times[max(0, min(count - 1, int(np.ceil(percent / 100 * count)) - 1))]

    return Statistics(
        count, times[0], times[-1], float(np.mean(times)), float(np.median(times)), at(90), at(95), at(99)
    )
