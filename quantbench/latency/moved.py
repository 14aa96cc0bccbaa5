"""Learning layers that move bytes: classes by kind and formats, and what other GPUs lend."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantbench.latency.classes import MovedClass, Point, conformal, is_thin
from quantbench.latency.fit import best_of, thinned
from quantbench.latency.gpus import Specs
from quantbench.latency.layout import Format
from quantbench.latency.prior import Prior
from quantbench.latency.residual import fit_residual
from quantbench.latency.stream import Stream, sizes, stream_us

if TYPE_CHECKING:
    from quantbench.latency.log_timings import Timed

Array = NDArray[np.float64]
_MoveKey = tuple[str, Format | None, Format | None, bool]
# Fewer shapes than this do not make a class of their own.
_FEW = 2
_MOST = 150
# Deviation of ln t of a class borrowed from other GPUs, by leaving devices out (docs/latency.md).
_BORROWED = 0.3
# A launch takes no longer than this much of the shortest kernel.
_MOST_LAUNCH = 1.2
# A GPU's shortest kernels take 2 to 5 µs; where a log has only longer ones, launches are what it timed.
_USUAL_FLOOR, _SLOW_FLOOR = 3.0, 6.0


def floor_us(rows: "Sequence[Timed]") -> float:
    """The shortest kernel of `rows` in µs, which a launch is close to."""
    found = min((row.ms * 1e3 for row in rows), default=_USUAL_FLOOR)
    return min(found, _SLOW_FLOOR)


def learn_moved(rows: "Sequence[Timed]", specs: Specs, prior: Prior) -> tuple[MovedClass, ...]:
    """Classes of layers that move bytes: by kind and formats where these have enough shapes, by kind, and all."""
    grouped: dict[_MoveKey, list[Timed]] = defaultdict(list)
    for row in best_of([r for r in rows if not r.work.weighted]):
        work = row.work
        thin = is_thin(work)
        grouped[(work.kind, work.source, work.target, thin)].append(row)
        grouped[(work.kind, None, None, thin)].append(row)
        grouped[("", None, None, False)].append(row)
    floor = floor_us(rows)
    return tuple(
        _learnt(key, thinned(members, _MOST), specs, prior, floor)
        for key, members in grouped.items()
        if key[1] is None or len({r.work.shape for r in members}) >= _FEW
    )


def borrow_moved(own: Sequence[MovedClass], specs: Specs, prior: Prior, floor: float) -> tuple[MovedClass, ...]:
    """What other GPUs tell of layers that move bytes in ways that were not timed on this one, whose shortest kernel
    takes `floor` µs."""
    known = {(c.kind, c.source, c.target, c.thin) for c in own}
    faster = _bandwidth_ratio(own, specs, prior)
    classes: list[MovedClass] = []
    for key in prior.moves():
        if key not in known:
            usual, _ = prior.move(*key, specs=specs, floor=floor)
            stream = replace(usual, bandwidth=usual.bandwidth * faster)
            classes.append(MovedClass(*key, stream, specs.cache_bytes, amplitude=_BORROWED, error=_BORROWED,
                                      borrowed=True))  # fmt: skip
    return tuple(classes)


def _bandwidth_ratio(classes: Sequence[MovedClass], specs: Specs, prior: Prior) -> float:
    """How much more of its bandwidth this device reaches than others do, over the classes that both have timed."""
    found = [
        float(np.log(c.stream.bandwidth / prior.move(c.kind, c.source, c.target, c.thin, specs=specs)[0].bandwidth))
        for c in classes
        if c.source is not None
    ]
    return float(np.exp(np.clip(sum(found) / (len(found) + 3.0), -0.7, 0.7)))


def _learnt(key: _MoveKey, rows: "list[Timed]", specs: Specs, prior: Prior, floor: float) -> MovedClass:
    works = [r.work for r in rows]
    us = np.array([r.ms * 1e3 for r in rows])
    usual, width = prior.move(*key, specs=specs, floor=floor)
    moved, elements = sizes(works)
    stream = _fit(moved, elements, us, usual, width, specs.cache_bytes, floor)
    empty = MovedClass(*key, stream, specs.cache_bytes)
    errors = np.log(us) - np.log(empty.base_us(works))
    points = tuple(Point(w, float(t)) for w, t in zip(works, us, strict=True))
    if key[1] is None:
        # Of several formats: a shape nearby says nothing here, only how widely formats differ.
        wide = float(np.clip(np.sqrt(np.mean(errors**2)), 0.1, 1.0))
        left, claimed, reach = errors, np.full(len(errors), wide), 0.0
    else:
        residual, left, claimed = fit_residual(works, errors, [w.shape for w in works])
        wide, reach = residual.amplitude, residual.reach
    return replace(empty, points=points, amplitude=wide, reach=reach, spread=conformal(left, claimed),
                   error=float(np.median(np.abs(left))))  # fmt: skip


def _fit(moved: Array, elements: Array, us: Array, usual: Stream, width: float, cache: float, floor: float) -> Stream:
    """Numbers of a class robustly in ln t, from those of other GPUs."""
    from scipy.optimize import least_squares

    # Without a small layer nothing tells the launch, and one that grows only hides slow formats.
    launch = min(usual.launch, float(us.min()))
    if us.min() > 4 * launch:
        width = 0.03
    start = np.log([launch, usual.bandwidth, usual.pace])
    widths = np.array([width, 3 * width, 3 * width])

    def errors(p: Array) -> Array:
        times = stream_us(Stream(*np.exp(p)), moved, elements, cache)
        left = (np.log(times) - np.log(us)) / 0.2 / max(1.0, len(us) / 20.0) ** 0.5
        return np.concatenate([left, (p - start) / widths])

    found = least_squares(errors, start, loss="soft_l1", max_nfev=40).x
    # Odd formats are slow in ways that others' sizes do not scale to: stay near what GPUs reach in general, the more
    # so where all of it is hardly longer than launches.
    far = 0.9 if us.max() > 5 * floor else 0.3
    near = np.clip(found, start - far, start + far)
    return Stream(min(float(np.exp(found[0])), _MOST_LAUNCH * floor), float(np.exp(near[1])), float(np.exp(near[2])))
