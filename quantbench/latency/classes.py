"""What a device has learnt: classes of products, classes of moved bytes; one time out of them with its spread."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quantbench.latency.formula import Params, predict_us
from quantbench.latency.layout import Format
from quantbench.latency.residual import Residual, fit_at
from quantbench.latency.stream import Stream, sizes, stream_us
from quantbench.latency.work import Work

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """A work that was timed and its best time in µs."""

    work: Work
    us: float


@dataclass(frozen=True)
class ProductClass:
    """Products of one kind in one pair of formats. `params` by arithmetic (FP16, TF32 …): the fastest one counts.

    `points` are what was timed; shapes near one of them follow it (`amplitude`, `reach` of the process that says how
    far); `spread` scales the deviation that it claims so that 90 % of the shapes left out lie within (by conformal
    prediction), `error` is the median error of these; `borrowed`: the numbers are of other GPUs, as shares of the
    published ones, and nothing was timed here.
    """

    kind: str
    source: Format
    target: Format
    params: dict[str, Params]
    sms: float
    points: tuple[Point, ...] = ()
    amplitude: float = 0.15
    reach: float = 1.0
    spread: float = 1.0
    error: float = 0.0
    borrowed: bool = False

    @cached_property
    def seen(self) -> dict[tuple[object, ...], float]:
        """Times in µs of works that were timed themselves, by their keys."""
        return seen_of(self.points)

    def base_us(self, works: Sequence[Work]) -> Array:
        """By the formula alone."""
        grid = np.stack([predict_us(p, works, self.sms) for p in self.params.values()])
        return np.asarray(grid.min(axis=0), dtype=np.float64)

    @cached_property
    def residual(self) -> Residual:
        """What neighbours tell besides."""
        return _residual(self)


@dataclass(frozen=True)
class MovedClass:
    """Layers that move bytes, and what was timed. `cache`: bytes of the GPU's L2.

    `source` and `target` are None for a kind in any formats; `thin`: of up to four channels. The rest as above.
    """

    kind: str
    source: Format | None
    target: Format | None
    thin: bool
    stream: Stream
    cache: float
    points: tuple[Point, ...] = ()
    amplitude: float = 0.3
    reach: float = 0.0
    spread: float = 1.0
    error: float = 0.0
    borrowed: bool = False

    @cached_property
    def seen(self) -> dict[tuple[object, ...], float]:
        """Times in µs of works that were timed themselves, by their keys."""
        return seen_of(self.points)

    def base_us(self, works: Sequence[Work]) -> Array:
        """By the formula alone."""
        return stream_us(self.stream, *sizes(works), self.cache)

    @cached_property
    def residual(self) -> Residual:
        """What neighbours tell besides."""
        return _residual(self)


def seen_of(points: Sequence[Point]) -> dict[tuple[object, ...], float]:
    """Times in µs by the keys of works, the first of several."""
    return {p.work.key: p.us for p in reversed(points)}


def _residual(chosen: "ProductClass | MovedClass") -> Residual:
    if not chosen.points or chosen.reach <= 0:
        return Residual.nothing(chosen.amplitude)
    works = [p.work for p in chosen.points]
    errors = np.log([p.us for p in chosen.points]) - np.log(chosen.base_us(works))
    return fit_at(works, errors, chosen.amplitude, chosen.reach)


def is_thin(work: Work) -> bool:
    """Few channels: vectorized layouts then move mostly padding, and kernels differ."""
    return work.channels <= 4


def distance(source: Format, target: Format, other_source: Format, other_target: Format) -> float:
    """How unlike two pairs of formats are for a kernel: 0 for the same; 100 and more for other arithmetic."""
    found = 0.0
    if source.dtype != other_source.dtype:
        found += 100
    if source.layout != other_source.layout:
        found += 1 if source.family == other_source.family else 10
    if target.dtype != other_target.dtype:
        found += 2
    if target.layout != other_target.layout:
        found += 0.5 if target.family == other_target.family else 3
    return found


def nearest(classes: Iterable[ProductClass], kind: str, source: Format, target: Format) -> list[ProductClass]:
    """The classes to ask for products of `kind` in these formats, least unlike first; [] without any."""
    kinds = {"gemm": ("gemm", "conv"), "conv": ("conv", "gemm"), "deconv": ("deconv", "conv"),
             "depthwise": ("depthwise",)}[kind]  # fmt: skip
    scored: list[tuple[float, int, ProductClass]] = []
    for index, each in enumerate(classes):
        if each.kind in kinds:
            far = distance(source, target, each.source, each.target)
            # In doubt: the same kind, what was timed here, what was timed more.
            doubt = 0.25 * kinds.index(each.kind) + 1.5 * each.borrowed + 0.1 / (1 + len(each.points))
            scored.append((far + doubt, index, each))
    return [c for _, _, c in sorted(scored, key=lambda s: s[:2])]


_SWING = 0.7


def estimate(chosen: ProductClass | MovedClass, works: Sequence[Work]) -> tuple[Array, Array]:
    """(time in µs, deviation of ln time) of `works` by one class; the deviation covers 90 % at 1.645 of it."""
    base = chosen.base_us(works)
    mean, claimed = chosen.residual.at(works)
    # Between few points a process of long reach can swing far beyond any of them.
    return base * np.exp(np.clip(mean, -_SWING, _SWING)), claimed * chosen.spread


def conformal(left: Array, claimed: Array, share: float = 0.9) -> float:
    """Factor on the claimed deviations so that `share` of left-out errors lies within 1.645 of it.

    Split-conformal quantile with the correction for small samples (Vovk; Lei et al. 2018).
    """
    if not len(left):
        return 1.0
    ratios = np.sort(np.abs(left) / np.maximum(claimed, 1e-9))
    rank = min(len(ratios) - 1, math.ceil(share * (len(ratios) + 1)) - 1)
    return float(max(ratios[rank] / 1.645, 0.3))
