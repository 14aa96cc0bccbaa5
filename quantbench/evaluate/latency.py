"""Latency of several models in onnxruntime, interleaved so that drift of the machine hits all of them alike."""

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from quantbench.records.evaluation import Latency


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    batch: int,
    threads: int,
    seconds: float = 2.0,
    least: int = 20,
    most: int = 300,
    warm_up: int = 3,
) -> dict[str, Latency]:
    """Time each call in turn, round by round, for about `seconds` in all (at least `least` rounds)."""
    for call in calls.values():
        for _ in range(warm_up):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or (rounds < most and time.perf_counter() < end):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
        rounds += 1
    return {name: _summary(np.array(values), batch, threads) for name, values in times.items()}


def _summary(ms: NDArray[np.float64], batch: int, threads: int) -> Latency:
    median, p90, p99 = (float(q) for q in np.quantile(ms, [0.5, 0.9, 0.99]))
    return Latency(median, p90, p99, len(ms), batch, threads)
