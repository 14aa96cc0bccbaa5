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
from quantbench.calibration.native import load

LEVELS = 128


def threshold(histogram: Histogram) -> float:
    """amax (unit of the tensor) with the least divergence; the observed maximum where the histogram is empty."""
    divergence = divergences(histogram.levels())
    if not np.isfinite(divergence).any():
        return histogram.amax
    best = len(divergence) - 1 - int(np.argmin(divergence[::-1]))  # the last of equals
    return min((best + LEVELS) / LEVEL_BINS * histogram.amax, histogram.amax)


def divergences(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(P || Q) for every candidate: float64 [1921] for candidates 128 … 2048; inf where Q misses mass of P."""
    weights = counts.copy()
    weights[0] = weights[1]
    candidates = np.arange(LEVELS, LEVEL_BINS + 1)
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
    cross, kept = search(mass, filled, weights == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # P sums to `total`, Q to `kept`; the logarithms of both norms come out of the sum.
        result = (entropy_p - cross) / total - np.log(total) + np.log(kept)
    return np.where(np.isfinite(result), np.maximum(result, 0.0), np.inf)


def _cross_entropies(
    mass: NDArray[np.float64], filled: NDArray[np.float64], empty: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For every candidate the sum of P log Q before both are scaled to 1, and the mass that Q keeps."""
    edges = _edges()
    candidates = np.arange(LEVELS, LEVEL_BINS + 1)
    level_mass = np.diff(mass.take(edges), axis=1)
    level_filled = np.diff(filled.take(edges), axis=1)
    outliers = mass[-1] - mass[candidates]
    # Outlier mass can fill a last bin that was empty; Q then spreads over it too.
    level_filled[:, -1] += empty[candidates - 1] & (outliers > 0)
    kept: NDArray[np.float64] = level_mass.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.divide(level_mass, level_filled, out=level_filled)
        np.log(log_q, out=log_q)
        last_level, last_log = level_mass[:, -1] + outliers, log_q[:, -1].copy()
        # Empty levels (0 log 0) count nothing; the last one has the outliers besides.
        cross = np.multiply(level_mass, log_q, out=log_q, where=level_mass > 0)
        cross[level_mass == 0] = 0.0
        cross[:, -1] = np.where(last_level > 0, last_level * last_log, 0.0)
    return cross.sum(axis=1), kept


def _cross_entropies_compiled(
    mass: NDArray[np.float64], filled: NDArray[np.float64], empty: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same by `search.c`."""
    library = load()
    assert library is not None
    cross, kept = np.empty((2, LEVEL_BINS + 1 - LEVELS))
    arrays = (mass, filled, np.ascontiguousarray(empty), cross, kept)
    library.quantbench_cross_entropies(*(ctypes.c_void_p(array.ctypes.data) for array in arrays))
    return cross, kept


@functools.cache
def _edges() -> NDArray[np.int64]:
    """First bin of each level, and the end of the last, of every candidate: [1921, 129]."""
    return (np.arange(LEVELS, LEVEL_BINS + 1)[:, None] * np.arange(LEVELS + 1)[None, :]) // LEVELS


def _prefix(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate(([0.0], np.cumsum(values)))


def _x_log_x(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values * np.log(np.where(values > 0, values, 1.0))
