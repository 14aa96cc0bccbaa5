"""entropy: the threshold whose INT8 distribution is nearest, in Kullback-Leibler divergence, to the float one.

Source: S. Migacz, "8-bit inference with TensorRT", GTC 2017 (S7310), pseudocode on slides 38 and 39.

The histogram is taken as 2048 bins up to the maximum. For each candidate i in 128 … 2048 the reference P is the first
i bins with the mass of all later bins added to its last bin; Q is the same bins without that mass, summed into 128
levels and each level spread evenly over those of its bins where P is not zero. The candidate with the least KL(P || Q)
wins, the widest among equals; amax is its upper edge.

Where the field differs:
- Bin 0 is given the count of bin 1, as pytorch-quantization and ModelOpt do: exact zeros (ReLU, padding) are always
  represented exactly and would otherwise outvote everything else.
- Levels are cut at floor(k * i / 128), which spreads the remainder of i / 128 evenly (as pytorch-quantization's
  digitize does); MXNet and onnxruntime give the whole remainder to the last level.
- "P is not zero" is asked of P with the outlier mass. pytorch-quantization and ModelOpt ask it of the bins without,
  so that an empty last bin makes the divergence infinite and drops candidates that the talk allows.

The search is exact and closed-form: with S the mass of a level and n its non-zero bins, Q is S / n all over the level,
so KL needs only prefix sums of counts, of non-zero flags and of p log p: 1921 * 128 terms instead of 1921 * 2048.
"""

import ctypes
import functools

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.histogram import LEVEL_BINS, Histogram
from quantbench.calibration.layout import SYMMETRIC, Layout
from quantbench.calibration.native import load

_FIRST = 128


def threshold(histogram: Histogram, layout: Layout = SYMMETRIC) -> float:
    """amax (unit of the tensor) with the least divergence; the observed maximum where the histogram is empty."""
    if histogram.amax == 0:
        return histogram.amax
    divergence = divergences(histogram.levels(), layout.scaled(LEVEL_BINS / histogram.amax))
    if not np.isfinite(divergence).any():
        return histogram.amax
    best = len(divergence) - 1 - int(np.argmin(divergence[::-1]))  # the last of equals
    return min((best + _FIRST) / LEVEL_BINS * histogram.amax, histogram.amax)


def divergences(counts: NDArray[np.float64], layout: Layout = SYMMETRIC) -> NDArray[np.float64]:
    """KL(P || Q) for every candidate: float64 [1921] for candidates 128 … 2048; inf where Q misses mass of P, and where
    `layout` (in bins) has more levels than there are bins.
    """
    weights = counts.copy()
    weights[0] = weights[1]
    candidates = np.arange(_FIRST, LEVEL_BINS + 1)
    levels = _levels(layout)
    mass = _prefix(weights)
    total = mass[-1]
    if total == 0:
        return np.full(len(candidates), np.inf)
    filled = _prefix((weights > 0).astype(np.float64))
    p_log_p = _prefix(_x_log_x(weights))

    last = candidates - 1
    outliers = total - mass[candidates]
    entropy_p = p_log_p[candidates] - _x_log_x(weights[last]) + _x_log_x(weights[last] + outliers)
    search = _cross_entropies_compiled if load() is not None else _cross_entropies
    cross, kept = search((mass, filled), weights == 0, levels)
    with np.errstate(divide="ignore", invalid="ignore"):
        # P sums to `total`, Q to `kept`; the logarithms of both norms come out of the sum.
        result = (entropy_p - cross) / total - np.log(total) + np.log(kept)
    return np.where(np.isfinite(result) & (candidates >= levels), np.maximum(result, 0.0), np.inf)


def _levels(layout: Layout) -> NDArray[np.int32]:
    """Levels from zero on of each candidate: 128 where they are symmetric, 256 where all are above zero."""
    return layout.tops(np.arange(_FIRST, LEVEL_BINS + 1, dtype=np.float64)) + np.int32(1)


def _cross_entropies(
    sums: tuple[NDArray[np.float64], NDArray[np.float64]], empty: NDArray[np.bool_], levels: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For every candidate the sum of P log Q before both are scaled to 1, and the mass that Q keeps."""
    mass, filled = sums
    edges = _edges(levels.tobytes())
    candidates = np.arange(_FIRST, LEVEL_BINS + 1)
    rows, last = np.arange(len(candidates)), levels - 1
    level_mass = np.diff(mass.take(edges), axis=1)
    level_filled = np.diff(filled.take(edges), axis=1)
    outliers = mass[-1] - mass[candidates]
    # Outlier mass can fill a last bin that was empty; Q then spreads over it too.
    level_filled[rows, last] += empty[candidates - 1] & (outliers > 0)
    kept: NDArray[np.float64] = level_mass.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.divide(level_mass, level_filled, out=level_filled)
        np.log(log_q, out=log_q)
        last_level, last_log = level_mass[rows, last] + outliers, log_q[rows, last]
        # Empty levels (0 log 0) count nothing; the last one has the outliers besides.
        cross = np.multiply(level_mass, log_q, out=log_q, where=level_mass > 0)
        cross[level_mass == 0] = 0.0
        cross[rows, last] = np.where(last_level > 0, last_level * last_log, 0.0)
    return cross.sum(axis=1), kept


def _cross_entropies_compiled(
    sums: tuple[NDArray[np.float64], NDArray[np.float64]], empty: NDArray[np.bool_], levels: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same by `search.c`."""
    library = load()
    assert library is not None
    cross, kept = np.empty((2, LEVEL_BINS + 1 - _FIRST))
    arrays = (*sums, np.ascontiguousarray(empty), levels, cross, kept)
    library.quantbench_cross_entropies(*(ctypes.c_void_p(array.ctypes.data) for array in arrays))
    return cross, kept


@functools.lru_cache(maxsize=4)
def _edges(counts: bytes) -> NDArray[np.int64]:
    """First bin of each level, and the end of the last, of every candidate, by its number of levels (the bytes of int32
    [1921]): [1921, most levels + 1]; past a candidate's levels all are its end."""
    levels = np.frombuffer(counts, np.int32).astype(np.int64)[:, None]
    numbers = np.minimum(np.arange(levels.max() + 1)[None, :], levels)
    found: NDArray[np.int64] = (np.arange(_FIRST, LEVEL_BINS + 1)[:, None] * numbers) // levels
    return found


def _prefix(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate(([0.0], np.cumsum(values)))


def _x_log_x(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values * np.log(np.where(values > 0, values, 1.0))
