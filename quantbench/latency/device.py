"""A device that was learnt: what it is, what its kernels take, how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from quantbench.json_types import JsonValue
from quantbench.latency.classes import (
    MovedClass,
    ProductClass,
    distance,
    estimate,
    is_thin,
    nearest,
)
from quantbench.latency.formula import predict_us
from quantbench.latency.gpus import Specs
from quantbench.latency.layout import Format
from quantbench.latency.work import FREE, OPAQUE, Work

_MATH = {"INT8": "INT8", "FP16": "FP16", "BF16": "FP16", "FP8": "INT8"}
# Deviations of ln t that leaving shapes out inside one log cannot show: another network's engine, timed as seen before
# and not; and a class of few shapes (this one over the root of their number; twice that outside of their range).
_SEEN, _ANOTHER, _FEW_SHAPES = 0.05, 0.07, 0.2
# Share of the memory's bandwidth that depthwise kernels reach (a guess).
_DEPTHWISE_SHARE = 0.5
# Deviation of ln t of transposed convolutions in formats that were not timed.
_TRANSPOSED = 0.3
_TOLERANCE = 1.645  # half-width of 90 % in standard deviations


@dataclass(frozen=True, slots=True)
class Offset:
    """What stands beside a layer's kernel time, in µs a layer: `mean` ± `spread` (90 %), and where it comes from.
    `first`: what a run's first layer takes besides, while the GPU starts and its input is in no cache."""

    mean: float
    spread: float
    source: str
    first: float = 0.0


ASSUMED = Offset(3.0, 3.0, "assumed: no profile of this GPU was learnt")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A layer's kernel time in µs, `low` to `high` in 90 % of cases, `sure` one of seen, model, borrowed, guess,
    unknown, free."""

    us: float
    low: float
    high: float
    sure: str
    why: str = ""

    @property
    def log_deviation(self) -> float:
        """Standard deviation of ln t."""
        return float(np.log(max(self.high, 1e-9) / max(self.low, 1e-9))) / (2 * _TOLERANCE) if self.low > 0 else 0.0


@dataclass(frozen=True)
class Evidence:
    """`files`: what was learnt from, each with rows and licence or source; `rows` timings, `shapes` distinct works."""

    files: tuple[Mapping[str, JsonValue], ...] = ()
    rows: int = 0
    shapes: int = 0
    tensorrt: tuple[str, ...] = ()
    error: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device:
    """`products` and `moved` are learnt classes, `floor` the shortest kernel in µs, `profile` and `compute` what a
    profile, and the whole engine, add a layer; `guess` says why the device as a whole is one ("" for devices that were
    learnt)."""

    name: str
    specs: Specs
    products: tuple[ProductClass, ...]
    moved: tuple[MovedClass, ...]
    profile: Offset = ASSUMED
    compute: Offset = ASSUMED
    evidence: Evidence = field(default_factory=Evidence)
    guess: str = ""
    common: float = 0.08
    floor: float = 3.0

    @property
    def dtypes(self) -> frozenset[str]:
        """Input data types in which products were timed on this device."""
        return frozenset(c.source.dtype for c in self.products if not c.borrowed)

    def estimate(self, work: Work) -> Estimate:
        """The time of one layer's kernel."""
        if work.kind in FREE:
            return Estimate(0.0, 0.0, 0.0, "free")
        if work.kind in OPAQUE:
            return self._opaque(work)
        found = self._product(work) if work.weighted else self._moved(work)
        if not self.guess:
            return found
        return Estimate(found.us, found.us / 1.7, found.us * 1.7, "guess", self.guess)

    def _nearest(self, kind: str, source: Format, target: Format) -> list[ProductClass]:
        """`nearest` of the device's classes: the layers of a network ask for few formats, many times."""
        key = (kind, source, target)
        if key not in self._orders:
            self._orders[key] = nearest(self.products, kind, source, target)
        return self._orders[key]

    @cached_property
    def _orders(self) -> dict[tuple[str, Format, Format], list[ProductClass]]:
        return {}

    @cached_property
    def _movers(self) -> dict[tuple[str, Format | None, Format | None], list[MovedClass]]:
        found: dict[tuple[str, Format | None, Format | None], list[MovedClass]] = {}
        for each in self.moved:
            found.setdefault((each.kind, each.source, each.target), []).append(each)
        return found

    def _product(self, work: Work) -> Estimate:
        source, target = work.formats
        order = self._nearest(work.kind, source, target)
        if work.kind == "depthwise":
            order = [c for c in order if not c.borrowed and c.source.dtype == work.source.dtype]
            if not order:
                return self._depthwise(work)
        if not order:
            return self._unknown_product(work)
        chosen = order[0]
        far = distance(source, target, chosen.source, chosen.target)
        if far >= 100:
            return self._other_arithmetic(work)
        times, deviations = estimate(chosen, [work])
        us, spread = float(times[0]), float(deviations[0])
        seen = chosen.seen.get(work.key, 0.0)
        if seen:
            return _interval(seen, _SEEN, "seen")
        if work.kind == "deconv" and chosen.kind == "conv" and work.stride > 1:
            longer = self._transposed(work)
            why = f"no transposed convolution {work.source} was timed: {longer:.2g} x the convolution of its products"
            return _interval(us * longer, float(np.hypot(spread, _TRANSPOSED)), "borrowed", why)
        if chosen.borrowed:
            why = f"{work.source} to {work.target} was never timed here: from other GPUs by published rates"
            return _interval(us, spread + 0.03 * far, "borrowed", why)
        if far >= 2 or (far > 0 and chosen.kind != work.kind):
            why = f"{work.source} to {work.target} was never timed: as {chosen.source} to {chosen.target}"
            return _interval(us, float(np.hypot(spread, 0.12)), "borrowed", why)
        outside = _outside(work, chosen)
        few = _FEW_SHAPES / max(len({p.work.shape for p in chosen.points}), 1) ** 0.5
        deviation = float(np.hypot(spread, np.hypot(_ANOTHER, 2 * few if outside else few)))
        return _interval(us, deviation, "model", outside)

    def _transposed(self, work: Work) -> float:
        """How much longer a transposed convolution takes than the convolution of its products: its output is written
        in strides. By the likest formats of which both are known, 1 where none are."""
        wanted = _MATH.get(work.source.dtype, "FP32")
        straight = {(c.source, c.target): c for c in self.products if c.kind == "conv"}
        known = [c for c in self.products if c.kind == "deconv" and (c.source, c.target) in straight]
        if not known:
            return 1.0
        best = min(known, key=lambda c: (_unlike(c, wanted), c.borrowed, -len(c.points)))
        there = work.in_formats(best.source, best.target)
        other = straight[(best.source, best.target)]
        times = [estimate(c, [w])[0][0] for c, w in ((best, there), (other, replace(there, kind="conv")))]
        return max(1.0, float(times[0] / times[1]))

    def _other_arithmetic(self, work: Work) -> Estimate:
        """A precision that was not timed here, by the ratio of published rates from one that was."""
        wanted = _MATH.get(work.source.dtype, "FP32")
        order = self._nearest(work.kind, *work.formats)
        best = min(order, key=lambda c: (_unlike(c, wanted), -len(c.points)))
        math = max(best.params, key=self.specs.rate)
        ratio = self.specs.rate(wanted) / self.specs.rate(math)
        params = best.params[math].faster(ratio)
        us = float(predict_us(params, [work], self.specs.sms)[0])
        why = f"no {work.source.dtype} was timed: from {best.source.dtype} by published rates ({ratio:.2g} x)"
        return _interval(us, 0.15, "borrowed", why)

    def _depthwise(self, work: Work) -> Estimate:
        """A depthwise convolution in formats that were not timed here: what bytes take, as it hardly computes.

        Other GPUs do not stand in for it: TensorRT's depthwise kernels differ between them more than anything else.
        """
        us = self.floor + work.nbytes / (self.specs.bandwidth_gbs * 1e3 * _DEPTHWISE_SHARE)
        return _interval(us, 0.35, "guess", f"no depthwise {work.source} was timed on this device: by bytes alone")

    def _unknown_product(self, work: Work) -> Estimate:
        us = self.floor + max(work.nbytes / (self.specs.bandwidth_gbs * 600),
                          work.flops / 2 / (self.specs.sms * self.specs.rate("FP32") * 0.5))  # fmt: skip
        return _interval(us, 0.4, "guess", f"no {work.kind} was timed on this device")

    def _moved(self, work: Work) -> Estimate:
        thin = is_thin(work)
        exact = [c for c in self._movers.get((work.kind, work.source, work.target), []) if c.thin == thin]
        of_kind = sorted(self._movers.get((work.kind, None, None), []), key=lambda c: c.thin != thin)
        any_kind = self._movers.get(("", None, None), [])
        order = exact or of_kind or any_kind
        if not order:
            us = self.floor + (work.read + work.written) / (self.specs.bandwidth_gbs * 500)
            return _interval(us, 0.5, "guess", "nothing that moves bytes was timed on this device")
        chosen = order[0]
        seen = chosen.seen.get(work.key, 0.0)
        if seen:
            return _interval(seen, _SEEN, "seen")
        times, deviations = estimate(chosen, [work])
        us, deviation = float(times[0]), float(deviations[0])
        if chosen.borrowed:
            why = f"no {work.kind} {work.source} to {work.target} was timed here: from other GPUs by bandwidth"
            return _interval(us, deviation, "borrowed", why)
        if exact:
            return _interval(us, float(np.hypot(deviation, _ANOTHER)), "model")
        why = f"{work.kind} {work.source} to {work.target} was hardly timed: as {chosen.kind or 'other kinds'}"
        return _interval(us, float(np.hypot(deviation, 0.2)), "borrowed", why)

    def _opaque(self, work: Work) -> Estimate:
        us = self.floor + work.nbytes / (self.specs.bandwidth_gbs * 300)
        return Estimate(us, us / 3, us * 6, "unknown", f"{work.kind}: what runs inside was never timed")


def _interval(us: float, deviation: float, sure: str, why: str = "") -> Estimate:
    wide = float(np.exp(_TOLERANCE * deviation))
    return Estimate(us, us / wide, us * wide, sure, why)


def _unlike(chosen: ProductClass, wanted: str) -> int:
    """Preference among classes of other arithmetic: tensor cores stand for tensor cores."""
    order = {"INT8": ("FP16", "TF32", "DP4A", "FP32"), "FP16": ("INT8", "TF32", "FP32", "DP4A"),
             "FP32": ("TF32", "FP32", "FP16", "INT8")}[wanted]  # fmt: skip
    ranks = [order.index(m) for m in chosen.params if m in order]
    main = {"hwc": 0, "chw32": 0}.get(chosen.source.family, 5)
    return min(ranks, default=9) * 10 + main


def _outside(work: Work, chosen: ProductClass) -> str:
    """What of a work was not learnt: its window, or a size by more than a factor of two; "" where all was."""
    if work.kind == "conv" and chosen.points and all(p.work.window != work.window for p in chosen.points):
        return f"no window of {work.window} x {work.window} was timed in these formats"
    for name in ("m", "n", "k"):
        values = [getattr(p.work, name) for p in chosen.points]
        size = getattr(work, name)
        if values and (size > 2 * max(values) or 2 * size < min(values)):
            return f"{name.upper()} = {size} is outside of what was learnt ({min(values)} to {max(values)})"
    return ""


def estimates(device: Device, works: Sequence[Work]) -> list[Estimate]:
    """`Device.estimate` of each."""
    return [device.estimate(work) for work in works]


def formats_of(device: Device, dtype: str) -> list[tuple[Format, Format]]:
    """Pairs of formats in which products of an input `dtype` were timed, those with most shapes first."""
    classes = sorted((c for c in device.products if c.source.dtype == dtype), key=lambda c: -len(c.points))
    return [(c.source, c.target) for c in classes]
