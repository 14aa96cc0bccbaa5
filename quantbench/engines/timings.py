"""Timings: what one benchmark measured, call by call, and its summary in trtexec's terms."""

from dataclasses import dataclass
from typing import Any

from quantbench.engines.statistics import Milliseconds, summarize, throughput


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

    @property
    def latency(self) -> Milliseconds:
        """What a caller waits for, queueing left out."""
        total = self.compute.copy()
        for part in (self.h2d, self.d2h):
            if part is not None:
                total += part
        return total

    def to_json(self) -> dict[str, Any]:
        """Summary: throughput in calls and images a second, then one Stats a quantity."""
        calls = len(self.compute)
        rate = throughput(calls, self.wall_seconds)
        parts = {"latency": self.latency, "enqueue": self.enqueue, "h2d": self.h2d, "compute": self.compute,
                 "d2h": self.d2h}  # fmt: skip
        return {
            "calls": calls,
            "wall_seconds": self.wall_seconds,
            "throughput_qps": rate,
            "images_per_second": rate * self.images_per_call,
            **{name: summarize(ms).to_json() for name, ms in parts.items() if ms is not None},
        }
