"""What GPUs have in common: a class's numbers as shares of the published ones, learnt from several devices.

A log of one network holds some formats only; where a class is missing, or has few shapes, other GPUs tell the share
of its peak that a kernel of that class reaches, and how much devices differ in it. `devices/_prior.yaml` has one entry
a device and class, so that a device can be judged by the others alone (`without`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from quantbench.latency.classes import distance
from quantbench.latency.formula import Params, predict_us
from quantbench.latency.gpus import Specs
from quantbench.latency.layout import Format
from quantbench.latency.stream import Stream
from quantbench.latency.work import Work

# Where nothing was learnt: the tile term is what a trial on four GPUs gave; the others are orders of magnitude.
_EXTRA = {"FP16": 75.0, "TF32": 75.0, "INT8": 31.0, "FP32": 20.0, "DP4A": 20.0}
_WIDTHS = (0.4, 0.5, 0.5, 0.35, 0.4, 0.4)
MOST_SHARE = 0.9
_FEW = 4
# GPUs that share the processor's memory, and how much they and the others count for each other's bandwidth.
_INTEGRATED = ("7.2", "8.7")
_OTHER_MEMORY, _LEAST_TOLD = 0.3, 0.1
# Padded elements a clock cycle and multiprocessor.
_PACE = 4.0
_LARGE = ((25088, 128, 1152), (6272, 256, 2304), (32400, 128, 1152), (100352, 128, 576))
_NARROWEST = (0.25, 0.2, 0.25, 0.2, 0.2, 0.2)


@dataclass(frozen=True, slots=True)
class ProductEntry:
    """A class of products of one device. `params` in shares: launch in µs, rate and bandwidth of the published ones,
    step in clock cycles."""

    device: str
    capability: str
    kind: str
    math: str
    source: Format
    target: Format
    shapes: int
    params: Params


@dataclass(frozen=True, slots=True)
class MovedEntry:
    """A class of moved bytes of one device: launch as a multiple of its shortest kernel, bandwidth as a share of the
    published one, pace in padded elements a clock cycle and multiprocessor. `telling` of its `shapes` take more than
    twice the launch: the others tell no more than that."""

    device: str
    capability: str
    kind: str
    source: Format | None
    target: Format | None
    thin: bool
    shapes: int
    telling: int
    launch: float
    bandwidth: float
    pace: float


def shares(params: Params, specs: Specs, math: str) -> Params:
    """`params` of a device as shares of its specifications."""
    return replace(params, rate=params.rate / specs.rate(math), bandwidth=params.bandwidth / specs.bandwidth_gbs / 1e3,
                   step=params.step * specs.clock_ghz * 1e3)  # fmt: skip


def absolute(params: Params, specs: Specs, math: str) -> Params:
    """The inverse of `shares`."""
    return replace(params, rate=params.rate * specs.rate(math), bandwidth=params.bandwidth * specs.bandwidth_gbs * 1e3,
                   step=params.step / specs.clock_ghz / 1e3)  # fmt: skip


@dataclass(frozen=True)
class Prior:
    """Entries of several devices."""

    products: tuple[ProductEntry, ...] = ()
    moved: tuple[MovedEntry, ...] = ()

    def without(self, gpu: str) -> "Prior":
        """Entries of other GPUs than `gpu`."""
        return Prior(tuple(e for e in self.products if e.device != gpu),
                     tuple(e for e in self.moved if e.device != gpu))  # fmt: skip

    def product(
        self, kind: str, math: str, source: Format, target: Format, specs: Specs
    ) -> tuple[Params, tuple[float, ...]]:
        """(numbers for a device of `specs`, widths of their logs) for a class; by the likest class that is known."""
        entries = self._of(kind, math)
        if not entries:
            default = Params(3.0, 0.7, 0.8, _EXTRA.get(math, 40.0), 60.0, 5.6)
            return absolute(default, specs, math), _WIDTHS
        near = min(_far(e, kind, source, target) for e in entries)
        chosen = [e for e in entries if _far(e, kind, source, target) == near]
        # GPUs of the same architecture, where there are any, tell more than others.
        chosen = [e for e in chosen if e.capability == specs.capability] or chosen
        logs = np.log([_numbers(e.params) for e in chosen])
        weights = np.sqrt([e.shapes for e in chosen])
        mean = np.average(logs, axis=0, weights=weights)
        widths = np.sqrt(np.average((logs - mean) ** 2, axis=0, weights=weights))
        factor, small, stem = (
            float(np.exp(np.average(np.log([getattr(e.params, n) for e in chosen]), weights=weights)))
            for n in ("factor", "small", "stem")
        )
        # One device's tiles: of a union, the least time would be of tiles that lucky errors favour.
        tiles = max(chosen, key=lambda e: e.shapes).params.tiles
        values = [float(v) for v in np.exp(mean)]
        params = Params(values[0], values[1], values[2], values[3], values[4], values[5], factor, small, stem, tiles)
        wide = 1.0 if len(chosen) > 1 and near == 0 else 1.5
        floor = np.array(_NARROWEST) * wide
        return absolute(params, specs, math), tuple(float(w) for w in np.maximum(widths, floor))

    def tells(self, kind: str, math: str) -> bool:
        """Whether any GPU has timed products that stand for these."""
        return bool(self._of(kind, math))

    def _of(self, kind: str, math: str) -> list[ProductEntry]:
        return [e for e in self.products if e.math == math and (e.kind == kind or kind in ("gemm", "deconv"))]

    def knows(self, kind: str, math: str, capability: str) -> bool:
        """Whether a GPU of `capability` timed enough products in this arithmetic."""
        found = [e.shapes for e in self.products if (e.math, e.capability) == (math, capability) and e.kind == kind]
        return sum(found) >= 2 * _FEW

    def move(
        self, kind: str, source: Format | None, target: Format | None, thin: bool, *, specs: Specs, floor: float = 3.0
    ) -> tuple[Stream, float]:
        """(numbers for a device of `specs`, whose shortest kernel takes `floor` µs, width of their logs) for layers
        that move bytes."""
        of_kind = self._any_formats.get(kind, [])
        integrated = specs.capability in _INTEGRATED
        exact = self._exact.get((kind, source, target, thin), [])
        for chosen in (exact, [e for e in of_kind if e.thin == thin], of_kind, self._any_formats.get("", [])):
            if chosen:
                # More than the memory's own bandwidth is a cache's, which other sizes and GPUs do not share.
                logs = np.log([(e.launch, min(e.bandwidth, MOST_SHARE), e.pace) for e in chosen])
                alike = [1.0 if (e.capability in _INTEGRATED) == integrated else _OTHER_MEMORY for e in chosen]
                told = np.sqrt([e.telling + _LEAST_TOLD for e in chosen]) * alike
                weights = np.stack([np.sqrt([e.shapes for e in chosen]), told, told], axis=1)
                launch, share, pace = (float(v) for v in np.exp((logs * weights).sum(0) / weights.sum(0)))
                return Stream(launch * floor, share * specs.bandwidth_gbs * 1e3, pace * specs.cycles), 0.15
        return Stream(floor, 0.6 * specs.bandwidth_gbs * 1e3, _PACE * specs.cycles), 0.3

    @cached_property
    def _exact(self) -> dict[tuple[str, Format | None, Format | None, bool], list[MovedEntry]]:
        found: dict[tuple[str, Format | None, Format | None, bool], list[MovedEntry]] = {}
        for entry in self.moved:
            found.setdefault((entry.kind, entry.source, entry.target, entry.thin), []).append(entry)
        return found

    @cached_property
    def _any_formats(self) -> dict[str, list[MovedEntry]]:
        found: dict[str, list[MovedEntry]] = {}
        for entry in self.moved:
            if entry.source is None:
                found.setdefault(entry.kind, []).append(entry)
        return found

    def relative(self, math: str, other: str, specs: Specs) -> float:
        """`_relative`, which is asked for again and again with the same few, remembered."""
        key = (math, other, specs)
        if key not in self._known_relative:
            self._known_relative[key] = self._relative(math, other, specs)
        return self._known_relative[key]

    @cached_property
    def _known_relative(self) -> dict[tuple[str, str, Specs], float]:
        return {}

    def _relative(self, math: str, other: str, specs: Specs) -> float:
        """How much of its published advantage over `other` the arithmetic `math` keeps in kernels, 1 for all of it.

        By GPUs of one capability that have timed both, on products large enough to be bound by arithmetic; only those
        of the same published advantage: what a faster arithmetic loses to loads hangs on how much faster it is.
        """
        found: list[float] = []
        published = specs.rate(math) / specs.rate(other)
        for capability in sorted({e.capability for e in self.products}):
            theirs = replace(specs, capability=capability)
            if not 0.7 < theirs.rate(math) / theirs.rate(other) / published < 1.4:
                continue
            pair = []
            for name in (math, other):
                own = Prior(tuple(e for e in self.products if e.capability == capability and e.math == name))
                count = sum(e.shapes for e in own.products if e.kind == "conv")
                if count >= _FEW:
                    pair.append(_utilization(own.product("conv", name, *MAIN[name], specs)[0], specs, name))
            if len(pair) == 2:
                found.append(float(np.log(pair[0] / pair[1])))
        # The published ratio has one vote, too, so that a single GPU does not decide alone.
        return float(np.exp(sum(found) / (len(found) + 1)))

    def classes(self) -> list[tuple[str, Format, Format]]:
        """Kinds and formats that any device has timed."""
        return sorted({(e.kind, e.source, e.target) for e in self.products})

    def maths(self, kind: str, source: Format, target: Format) -> list[str]:
        """Arithmetics of the kernels of a class."""
        return sorted({e.math for e in self.products if (e.kind, e.source, e.target) == (kind, source, target)})

    def moves(self) -> list[tuple[str, Format | None, Format | None, bool]]:
        """Classes of moved bytes that any device has timed."""
        found = {(e.kind, e.source, e.target, e.thin) for e in self.moved}
        return sorted(found, key=lambda c: (c[0], str(c[1]), str(c[2]), c[3]))


# The pair of formats in which most kernels of an arithmetic work.
MAIN: dict[str, tuple[Format, Format]] = {
    "INT8": (Format("INT8", "chw32"), Format("INT8", "chw32")),
    "DP4A": (Format("INT8", "chw4"), Format("INT8", "chw4")),
    "FP16": (Format("FP16", "hwc"), Format("FP16", "hwc")),
    "TF32": (Format("FP32", "hwc"), Format("FP32", "hwc")),
    "FP32": (Format("FP32", "linear"), Format("FP32", "linear")),
}


def _numbers(params: Params) -> list[float]:
    """What is averaged over devices, more bandwidth than the memory has left out."""
    return [params.launch, params.rate, min(params.bandwidth, MOST_SHARE), params.extra, params.depth, params.step]


def _utilization(params: Params, specs: Specs, math: str) -> float:
    """Share of the published rate that large products reach."""
    works = [Work("conv", *MAIN[math], m=m, n=n, k=k) for m, n, k in _LARGE]
    us = predict_us(params, works, specs.sms)
    return float(
        np.mean([w.m * w.n * w.k / (specs.sms * specs.rate(math)) / t for w, t in zip(works, us, strict=True)])
    )


def _far(entry: ProductEntry, kind: str, source: Format, target: Format) -> float:
    return distance(source, target, entry.source, entry.target) + 0.25 * (entry.kind != kind)


def merged(priors: Iterable[Prior]) -> Prior:
    """All entries of several priors."""
    found = list(priors)
    return Prior(tuple(e for p in found for e in p.products), tuple(e for p in found for e in p.moved))
