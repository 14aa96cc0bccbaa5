"""Learning a device: timings to classes, each with the error that it makes on shapes left out."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantbench.latency.classes import MovedClass, Point, ProductClass, conformal, distance
from quantbench.latency.fit import best_of, fit_class, thinned
from quantbench.latency.formula import Params, predict_us
from quantbench.latency.gpus import Specs
from quantbench.latency.layout import Format
from quantbench.latency.prior import MAIN, MOST_SHARE, MovedEntry, Prior, ProductEntry, shares
from quantbench.latency.residual import fit_residual

if TYPE_CHECKING:
    from quantbench.latency.log_timings import Timed

Array = NDArray[np.float64]
_Key = tuple[str, Format, Format]
_MOST_POINTS = 600
_SLOW_START = 3.0
# A GPU's smallest kernels take 2 to 5 µs; where a log has none below this, launches are what it timed.
_SLOW_LAUNCH_MS = 0.006
_BOUND = 1.15
# With fewer shapes than this, a class follows other GPUs the more closely the fewer: by leaving networks out.
_ENOUGH_SHAPES = 18
# Deviation of ln t of a class borrowed from other GPUs, by leaving devices out (docs/latency.md).
_BORROWED = 0.16


def learn_products(rows: "Sequence[Timed]", specs: Specs, prior: Prior) -> tuple[ProductClass, ...]:
    """Classes of all products in `rows`."""
    grouped: dict[_Key, list[Timed]] = defaultdict(list)
    for row in rows:
        if row.work.weighted:
            grouped[(row.work.kind, *row.work.formats)].append(row)
    classes: list[ProductClass] = []
    for (kind, source, target), members in sorted(grouped.items(), key=lambda g: -_shapes(g[1])):
        params: dict[str, Params] = {}
        for name, part in _by_math(members, source).items():
            start, widths = prior.product(kind, name, source, target, specs)
            if prior.tells(kind, name):
                # Kernels of one shape miss it together: of few shapes, that one miss would pass for the class's.
                narrower = min(1.0, _shapes(part) / _ENOUGH_SHAPES) ** 0.5
                widths = tuple(w * narrower for w in widths)
            params[name] = fit_class(part, start, widths, specs.sms)
        classes.append(_with_residual(kind, source, target, params, members, specs.sms))
    return tuple(classes)


def borrow_products(own: Sequence[ProductClass], specs: Specs, prior: Prior) -> tuple[ProductClass, ...]:
    """What other GPUs tell of classes of products that were not timed on this one."""
    grouped = {(c.kind, c.source, c.target) for c in own}
    classes: list[ProductClass] = []
    for key in dict.fromkeys([("conv", *pair) for pair in MAIN.values()] + prior.classes()):
        maths = [m for m in prior.maths(*key) or _main_of(key) if specs.has(m)]
        if key not in grouped and maths:
            params = {m: _borrowed(key, m, own, prior, specs) for m in maths}
            classes.append(ProductClass(*key, params, specs.sms, amplitude=_BORROWED, error=_BORROWED, borrowed=True))
    return tuple(classes)


def _main_of(key: _Key) -> list[str]:
    return [m for m, pair in MAIN.items() if pair == key[1:]]


# What speaks for an arithmetic that was not timed: tensor cores for tensor cores, the others for each other.
_STAND_IN = {"INT8": ("FP16", "TF32"), "FP16": ("INT8", "TF32"), "TF32": ("FP16", "INT8"), "DP4A": ("FP32",),
             "FP32": ("DP4A",)}  # fmt: skip


def _borrowed(key: _Key, name: str, own: Sequence[ProductClass], prior: Prior, specs: Specs) -> Params:
    """Numbers for a class that was not timed: this device's likest class, changed as other devices' classes differ.

    From another arithmetic by the ratio of published rates, between the formats in which most of its kernels work.
    """
    kind, source, target = key
    wanted = prior.product(kind, name, source, target, specs)[0]
    same = [c for c in own if name in c.params and c.kind in (kind, "conv") and c.kind != "depthwise"]
    if same:
        anchor = min(same, key=lambda c: (distance(source, target, c.source, c.target), -len(c.points)))
        over = prior.product(anchor.kind, name, anchor.source, anchor.target, specs)[0]
        return anchor.params[name].times(wanted, over)
    for other in _STAND_IN[name]:
        main = MAIN[other]
        found = [c for c in own if other in c.params and c.kind == "conv"]
        if found and kind != "depthwise":
            anchor = min(found, key=lambda c: (distance(*main, c.source, c.target), -len(c.points)))
            kept = prior.relative(name, other, specs)
            moved = anchor.params[other].faster(specs.rate(name) / specs.rate(other), kept)
            # Where arithmetic was the limit, nothing told the bandwidth; with a faster one it may be the limit.
            moved = replace(moved, bandwidth=min(moved.bandwidth, specs.bandwidth_gbs * 1e3 * MOST_SHARE))
            over = prior.product("conv", name, *MAIN[name], specs)[0]
            return moved.times(wanted, over)
    return wanted


def _by_math(rows: "Sequence[Timed]", source: Format) -> "dict[str, list[Timed]]":
    """Rows by arithmetic. Those that name none belong to the commonest, or to the input's own data type."""
    found: dict[str, list[Timed]] = defaultdict(list)
    unnamed: list[Timed] = []
    for row in rows:
        (found[row.math] if row.tile is not None and row.math else unnamed).append(row)
    # A stray kernel of one shape is no class: its layers have faster ones.
    shapes = _shapes(rows)
    for name in [n for n, part in found.items() if _shapes(part) * 3 < shapes]:
        del found[name]
    if not found:
        natural = {"INT8": "DP4A" if source.vector == 4 else "INT8", "FP16": "FP16"}.get(source.dtype, "FP32")
        found[natural] = list(unnamed) or list(rows)
    return found


def _with_residual(
    kind: str, source: Format, target: Format, params: dict[str, Params], rows: "Sequence[Timed]", sms: float
) -> ProductClass:
    best = thinned(best_of(rows), _MOST_POINTS)
    works = [r.work for r in best]
    base = np.min(np.stack([predict_us(p, works, sms) for p in params.values()]), axis=0)
    errors = np.log([r.ms * 1e3 for r in best]) - np.log(base)
    residual, left, claimed = fit_residual(works, errors, [w.shape for w in works])
    points = tuple(Point(r.work, r.ms * 1e3) for r in best)
    return ProductClass(kind, source, target, params, sms, points, residual.amplitude, residual.reach,
                        conformal(left, claimed), _median(left))  # fmt: skip


def without_slow_start(rows: "Sequence[Timed]") -> "tuple[list[Timed], int]":
    """`rows` of one log without its beginning where the clock was not up yet, and how many that were.

    It shows where a work timed there was timed again later, three times faster or more.
    """
    best: dict[tuple[object, ...], tuple[float, int]] = {}
    for row in rows:
        known = best.get(row.work.key)
        if known is None or row.ms < known[0]:
            best[row.work.key] = (row.ms, row.line)
    first = [row for row in rows if row.best]
    slow_until = 0
    for row in first[: max(20, len(first) // 10)]:
        ms, line = best[row.work.key]
        if line > row.line and row.ms > _SLOW_START * ms:
            slow_until = max(slow_until, row.line)
    kept = [r for r in rows if r.line > slow_until]
    return (kept, len(rows) - len(kept)) if len(kept) > len(rows) // 2 else (list(rows), 0)


def without_launch_bound(rows: "Sequence[Timed]") -> "list[Timed]":
    """`rows` of one log without those that took no longer than a launch did.

    Where the processor launches slowly (10 µs a kernel on one machine), small kernels all take that long, and their
    times say nothing of the GPU: a profile of the same engine has them at less.
    """
    floor = min((r.ms for r in rows), default=0.0)
    if floor < _SLOW_LAUNCH_MS:
        return list(rows)
    bound = {r.work.key for r in rows if r.ms <= _BOUND * floor}
    return [r for r in rows if r.work.key not in bound]


def prior_of(
    device: str, specs: Specs, products: Sequence[ProductClass], moved: Sequence[MovedClass], floor: float
) -> Prior:
    """What `device`, whose shortest kernel takes `floor` µs, tells of others: its own classes, not those that it
    borrowed."""
    return Prior(
        tuple(
            ProductEntry(device, specs.capability, c.kind, name, c.source, c.target, len(c.points),
                         shares(params, specs, name))
            for c in products
            if not c.borrowed
            for name, params in c.params.items()
        ),
        tuple(
            MovedEntry(device, specs.capability, c.kind, c.source, c.target, c.thin, len(c.points),
                       sum(p.us > 2 * c.stream.launch for p in c.points), c.stream.launch / floor,
                       c.stream.bandwidth / specs.bandwidth_gbs / 1e3, c.stream.pace / specs.cycles)
            for c in moved
            if not c.borrowed
        ),
    )  # fmt: skip


def _shapes(rows: "Sequence[Timed]") -> int:
    return len({r.work.shape for r in rows})


def _median(left: Array) -> float:
    return float(np.median(np.abs(left))) if len(left) else 0.0
