"""Fit of a class of products (one arithmetic, input format, output format) to timings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantbench.latency.formula import COMMON_TILES, Params, Sizes, Tile, fastest_us, logs_of, time_us

if TYPE_CHECKING:
    from quantbench.latency.log_timings import Timed

Array = NDArray[np.float64]
_MOST_ROWS = 1500
# Errors of ln t beyond this count less than squarely; the unit in which errors and priors are weighed.
_UNIT = 0.1


def fit_class(rows: "Sequence[Timed]", start: Params, widths: Sequence[float], sms: float) -> Params:
    """Parameters for `rows` of one class, starting from `start` whose logs may move by about `widths`.

    Rows that name their tile are points of their own; without at least two tiles, the best times of each work are
    fitted by the tiles of `start`. `sms` is the GPU's number of multiprocessors.
    """
    from scipy.optimize import least_squares

    centre, width = logs_of(start), np.array(widths)
    best = best_of(rows)
    tiled = _by_tile(rows)
    tiles: tuple[Tile, ...] = start.tiles or COMMON_TILES
    named = len({r.tile for r in tiled}) >= 2
    chosen = tiled if named else thinned(best, _MOST_ROWS)
    sizes = Sizes.of([r.work for r in chosen])
    target = np.log([r.ms * 1e3 for r in chosen])
    pairs = np.array([r.tile or (0, 0) for r in chosen], dtype=np.float64)
    columns = (pairs[:, 0], pairs[:, 1])
    # Every shape counts alike, however many kernels were timed on it.
    weight = _weights(chosen) / _UNIT

    def miss(p: Array) -> Array:
        us = time_us(p, sizes, columns, sms) if named else fastest_us(p, sizes, tiles, sms)
        return np.asarray(np.log(us) - target)

    def errors(p: Array) -> Array:
        return np.concatenate([weight * miss(p), (p - centre) / width])

    point: Array = least_squares(errors, centre, loss="soft_l1", max_nfev=30, x_scale=0.3, diff_step=1e-3).x
    if named:
        tiles = _tiles(chosen, -miss(point))
    fastest = fastest_us(point, Sizes.of([r.work for r in best]), tiles, sms)
    ratios = np.log([r.ms * 1e3 for r in best]) - np.log(fastest)
    stem = np.array([r.work.stem for r in best], dtype=bool)
    small = np.array([r.work.small for r in best], dtype=bool) & ~stem
    launch, rate, bandwidth, extra, depth, step = (float(v) for v in np.exp(point))
    return Params(launch, rate, bandwidth, extra, depth, step, _factor(ratios[~small & ~stem], start.factor),
                  _factor(ratios[small], start.small), _factor(ratios[stem], start.stem), tiles)  # fmt: skip


def _tiles(rows: "Sequence[Timed]", slower: Array) -> tuple[Tile, ...]:
    """Tiles with how much slower than the rest they are, shrunk where few timings tell."""
    found: dict[tuple[int, int], list[float]] = {}
    for row, error in zip(rows, slower, strict=True):
        if row.tile is not None:
            errors = found.setdefault(row.tile, [])
            # A tile that lies mostly beyond the output tells nothing of itself.
            if row.tile[0] < 2 * row.work.m and row.tile[1] < 2 * row.work.n:
                errors.append(float(error))
    return tuple((*t, float(np.exp(sum(e) / (len(e) + 2.0)))) for t, e in sorted(found.items()))


def _by_tile(rows: "Sequence[Timed]") -> "list[Timed]":
    """The fastest kernel of each work and tile, without those far slower than the best (nobody runs them)."""
    best: dict[tuple[object, ...], float] = {}
    found: dict[tuple[object, ...], Timed] = {}
    for row in rows:
        if row.tile is None or row.winograd:
            continue
        key = row.work.key
        best[key] = min(best.get(key, np.inf), row.ms)
        old = found.get((key, row.tile))
        if old is None or row.ms < old.ms:
            found[(key, row.tile)] = row
    return thinned([r for r in found.values() if r.ms <= 2.5 * best[r.work.key]], _MOST_ROWS)


def _factor(ratios: Array, start: float) -> float:
    """Median of ratios given as logs; a few tell it only roughly, so they move `start` only a little."""
    if not len(ratios):
        return start
    count = len(ratios)
    return float(np.exp((np.median(ratios) * count + np.log(start)) / (count + 1.0)))


def best_of(rows: "Sequence[Timed]") -> "list[Timed]":
    """The fastest time of each work."""
    found: dict[tuple[object, ...], Timed] = {}
    for row in rows:
        old = found.get(row.work.key)
        if old is None or row.ms < old.ms:
            found[row.work.key] = row
    return list(found.values())


def _weights(rows: "Sequence[Timed]") -> Array:
    counts: dict[tuple[object, ...], int] = {}
    for row in rows:
        counts[row.work.shape] = counts.get(row.work.shape, 0) + 1
    return np.array([min(1.0, (3.0 / counts[r.work.shape]) ** 0.5) for r in rows])


def thinned(rows: "list[Timed]", most: int) -> "list[Timed]":
    """At most `most` of `rows`, from all over them."""
    return rows if len(rows) <= most else rows[:: -(-len(rows) // most)]
