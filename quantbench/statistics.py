"""trtexec's statistics, as pure functions on arrays of milliseconds.

Source: TensorRT/samples/common/sampleReporting.cpp (findPercentile, findMedian, getPerformanceResult,
printPerformanceReport), Apache-2.0; written anew from its definitions.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Milliseconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stats:
    """One quantity over all calls, in milliseconds. `variation` is the standard deviation over the mean."""

    min: float
    max: float
    mean: float
    median: float
    p90: float
    p95: float
    p99: float
    variation: float

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)


def percentile(ms: Milliseconds, share: float) -> float:
    """trtexec's percentile: the sorted sample at N - 1 - floor((1 - share / 100) * N); 0 < share <= 100.

    Raises ValueError for no samples or a share outside its range.
    """
    if not len(ms) or not 0 < share <= 100:
        raise ValueError(f"percentile {share} of {len(ms)} samples")
    left_out = int((1 - share / 100) * len(ms) + 1e-9)
    return float(np.sort(ms)[max(len(ms) - 1 - left_out, 0)])


def summarize(ms: Milliseconds) -> Stats:
    """All statistics of one array [calls]; raises ValueError for an empty one."""
    if not len(ms):
        raise ValueError("no samples")
    mean = float(ms.mean())
    return Stats(
        min=float(ms.min()),
        max=float(ms.max()),
        mean=mean,
        median=float(np.median(ms)),
        p90=percentile(ms, 90),
        p95=percentile(ms, 95),
        p99=percentile(ms, 99),
        variation=float(ms.std()) / mean if mean > 0 else 0.0,
    )


def throughput(calls: int, wall_seconds: float) -> float:
    """Calls a second over the wall time of the whole measurement; raises ValueError where that is not positive."""
    if wall_seconds <= 0:
        raise ValueError(f"wall time {wall_seconds} s")
    return calls / wall_seconds
