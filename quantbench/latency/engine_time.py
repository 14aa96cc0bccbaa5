"""The time of an engine from its layers: three totals, each with its interval, and who spends it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantbench.latency.device import Device, Estimate, Offset
from quantbench.latency.work import FREE, OPAQUE, Work, kind_of, work_of
from quantbench.layers.categories import is_leftover_qdq
from quantbench.layers.layer import Layer

_TOLERANCE = 1.645
# What layers of a class that other GPUs lent have in common, besides.
_LENT = 0.2
_NONE = Offset(0.0, 0.0, "")
TIMES = ("tactics", "profile", "compute")


@dataclass(frozen=True, slots=True)
class Total:
    """A time in ms, `low` to `high` in 90 % of cases."""

    ms: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ms:.3f} ms ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One layer: its part in the engine, and its kernel's time."""

    name: str
    part: str
    estimate: Estimate

    @property
    def us(self) -> float:
        return self.estimate.us


@dataclass(frozen=True)
class EngineTime:
    """`tactics`: kernels alone, as a build log times them; `profile`: as trtexec's per-layer profile sums up;
    `compute`: GPU compute time of the whole engine. `unsized`: how many layers of unknown shapes are in no total."""

    layers: tuple[LayerTime, ...]
    tactics: Total
    profile: Total
    compute: Total
    unsized: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """ms of kernels by part: convolutions, reformats, left-over Q/DQ and so on, largest first."""
        found: dict[str, float] = {}
        for layer in self.layers:
            found[layer.part] = found.get(layer.part, 0.0) + layer.us / 1e3
        return dict(sorted(found.items(), key=lambda f: -f[1]))

    @property
    def guessed_ms(self) -> float:
        """ms of layers that were neither timed nor modelled on this device."""
        return sum(layer.us for layer in self.layers if layer.estimate.sure in ("guess", "unknown")) / 1e3


_PARTS = {"conv": "convolutions", "depthwise": "convolutions", "deconv": "convolutions", "gemm": "matrix products",
          "reformat": "reformats", "pointwise": "pointwise", "pool": "pooling"}  # fmt: skip


def engine_time(device: Device, layers: Sequence[Layer]) -> EngineTime:
    """The time of `layers` on `device`."""
    works: list[tuple[str, str, Work]] = []
    unsized = 0
    for layer in layers:
        kind = kind_of(layer)
        work = work_of(layer)
        part = "Q/DQ left over" if is_leftover_qdq(layer) else _PARTS.get(kind, kind)
        if work is not None:
            works.append((layer.name, part, work))
        elif kind not in FREE:
            unsized += 1
    return time_of_works(device, works, unsized)


def time_of_works(
    device: Device, works: Sequence[tuple[str, str, Work]], unsized: int = 0, *, whole: bool = True
) -> EngineTime:
    """The time of layers given as (name, part, work). `whole`: the engine's first layer is one of them."""
    known: dict[Work, Estimate] = {}
    for _, _, work in works:
        if work not in known:
            known[work] = device.estimate(work)
    times = tuple(LayerTime(name, part, known[work]) for name, part, work in works)
    run = [t for t in times if t.estimate.sure != "free"]
    opaque = [t for t, (_, _, work) in zip(times, works, strict=True) if work.kind in OPAQUE]
    total = sum(t.us for t in run)
    modelled = sum(t.us for t in run if t not in opaque)
    # Layers err on their own; what all of them share, a clock or another build, is the common term.
    own = sum(_variance(t.estimate) for t in run if t not in opaque)
    lent = sum(t.us for t in run if t.estimate.sure == "borrowed")
    variance = own + (device.common * modelled) ** 2 + (_LENT * lent) ** 2
    lower = sum(t.us - t.estimate.low for t in opaque)
    upper = sum(t.estimate.high - t.us for t in opaque)
    guess = 1.7 if device.guess else 1.0
    totals = []
    for offset in (_NONE, device.profile, device.compute):
        first = offset.first if whole and run else 0.0
        us = max(total + offset.mean * len(run), 0.3 * total) + first
        wide = _TOLERANCE * float(np.sqrt(variance + (offset.spread / _TOLERANCE * len(run)) ** 2 + first**2 / 4))
        low, high = max(us - wide - lower, 0.2 * us), us + wide + upper
        totals.append(Total(us / 1e3, min(low, us / guess) / 1e3, max(high, us * guess) / 1e3))
    return EngineTime(times, totals[0], totals[1], totals[2], unsized)


def _variance(estimate: Estimate) -> float:
    return (estimate.us * estimate.log_deviation) ** 2
