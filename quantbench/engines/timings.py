"""Timings: what one benchmark measured, call by call, and its summary in trtexec's terms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.json_types import JsonObject
from quantbench.statistics import Milliseconds, Stats, summarize, throughput

_ENQUEUE_BOUND = 0.8


@dataclass(frozen=True, slots=True)
class Timings:
    """Arrays [calls] in milliseconds; GPU parts by events, enqueue by the host's clock.

    `latency` of a call is H2D + compute + D2H, as in trtexec. A CPU backend fills `compute` alone.
    """

    compute: Milliseconds
    enqueue: Milliseconds | None
    h2d: Milliseconds | None
    d2h: Milliseconds | None
    wall_seconds: float
    images_per_call: int
    started: Milliseconds | None = None
    """When each call began, since the measurement did."""

    @property
    def latency(self) -> Milliseconds:
        """What a caller waits for, queueing left out."""
        total = self.compute.copy()
        for part in (self.h2d, self.d2h):
            if part is not None:
                total += part
        return total

    def notes(self) -> list[str]:
        """Why the throughput may be less than the GPU can give, one sentence each.

        Bounds as in trtexec (sampleReporting.cpp, printEpilog): medians of enqueue over 0.8, of a copy over 1.0 of
        the compute time. None on a CPU.
        """
        compute = float(np.median(self.compute))
        found = []
        if self.enqueue is not None and np.median(self.enqueue) > _ENQUEUE_BOUND * compute:
            found.append("enqueueing takes about as long as the GPU computes: --cuda-graph may be faster")
        for part, name in ((self.h2d, "to"), (self.d2h, "from")):
            if part is not None and np.median(part) >= compute:
                found.append(f"copying {name} the GPU takes as long as computing: --no-transfers leaves it out")
        return found

    def parts(self) -> dict[str, Stats]:
        """Each quantity that was measured, latency first."""
        parts = {"latency": self.latency, "enqueue": self.enqueue, "h2d": self.h2d, "compute": self.compute,
                 "d2h": self.d2h}  # fmt: skip
        return {name: summarize(ms) for name, ms in parts.items() if ms is not None}

    @property
    def calls(self) -> int:
        """How many were timed."""
        return len(self.compute)

    @property
    def calls_per_second(self) -> float:
        """Throughput."""
        return throughput(self.calls, self.wall_seconds)

    @property
    def images_per_second(self) -> float:
        """Throughput in images."""
        return self.calls_per_second * self.images_per_call

    def to_json(self) -> JsonObject:
        """Summary: throughput in calls and images a second, one Stats a quantity, the notes."""
        return {
            "calls": self.calls,
            "wall_seconds": self.wall_seconds,
            "throughput_qps": self.calls_per_second,
            "images_per_second": self.images_per_second,
            **{name: stats.to_json() for name, stats in self.parts().items()},
            "notes": self.notes(),
        }


def as_trtexec(timings: Timings) -> list[dict[str, float]]:
    """One entry a call in the form of `trtexec --exportTimes` (times in ms), in the order in which they began."""
    calls = len(timings.compute)
    zero = np.zeros(calls)
    starts = timings.started if timings.started is not None else np.concatenate([[0.0], timings.latency[:-1].cumsum()])
    enqueue = zero if timings.enqueue is None else timings.enqueue
    h2d, d2h = (zero if part is None else part for part in (timings.h2d, timings.d2h))
    entries = []
    for index in np.argsort(starts, kind="stable"):
        start = float(starts[index])
        compute = start + float(h2d[index])
        out = compute + float(timings.compute[index])
        end = out + float(d2h[index])
        entries.append({
            "startEnqMs": start, "endEnqMs": start + float(enqueue[index]), "startH2dMs": start, "endH2dMs": compute,
            "startComputeMs": compute, "endComputeMs": out, "startD2hMs": out, "endD2hMs": end,
            "h2dMs": compute - start, "computeMs": out - compute, "d2hMs": end - out, "latencyMs": end - start,
        })  # fmt: skip
    return entries


def images_of(feed: Mapping[str, NDArray[Any]]) -> int:
    """Size of the batch: the first dimension of the first input, 1 for a scalar or no input at all."""
    shape = next((array.shape for array in feed.values()), ())
    return int(shape[0]) if shape else 1
