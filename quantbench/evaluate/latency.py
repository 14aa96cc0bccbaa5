"""Latency of several models in onnxruntime, interleaved so that drift of the machine hits all of them alike."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quantbench.records.evaluation import Latency

# From so many rounds on a look, now and then, whether the interval of each median is under this share of it.
_SETTLED_ROUNDS, _LOOK_EVERY, _NARROW = 50, 10, 0.02


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    batch: int,
    threads: int,
    seconds: float = 0.5,
    least: int = 20,
    most: int = 300,
    warm_up: int = 3,
) -> dict[str, Latency]:
    """Time each call in turn, round by round, for about `seconds` in all (at least `least` rounds), or until the median
    of each is known to a percent."""
    for call in calls.values():
        for _ in range(warm_up):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or (rounds < most and time.perf_counter() < end and not _all_settled(times, rounds)):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
        rounds += 1
    return {name: _summary(np.array(values), batch, threads) for name, values in times.items()}


def _all_settled(times: Mapping[str, Sequence[float]], rounds: int) -> bool:
    return rounds >= _SETTLED_ROUNDS and rounds % _LOOK_EVERY == 0 and all(map(_is_settled, times.values()))


def _is_settled(values: Sequence[float]) -> bool:
    low, high = median_interval(values)
    return high - low <= _NARROW * float(np.median(values))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, by ranks (binomial, normal approximation); all values where they are few."""
    ordered, count = sorted(values), len(values)
    half = 0.98 * math.sqrt(count)
    return (
        ordered[max(math.floor(count / 2 - half), 0)],
        ordered[min(math.ceil(count / 2 + half), count - 1)],
    )


def _summary(ms: NDArray[np.float64], batch: int, threads: int) -> Latency:
    median, p90, p99 = (float(q) for q in np.quantile(ms, [0.5, 0.9, 0.99]))
    return Latency(median, p90, p99, len(ms), batch, threads, *map(float, median_interval(ms.tolist())))
