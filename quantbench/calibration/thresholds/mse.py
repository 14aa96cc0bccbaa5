"""mse: the threshold with the least mean squared error of quantizing, clipping included.

Source: pytorch-quantization's and ModelOpt's HistogramCalibrator("mse"): candidates are bin centres, counts of bin 0
are replaced by those of bin 1 (exact zeros have no error). They step through candidates one by one in a Python loop;
here all candidates of a tensor are one matrix, and each has the levels that a Layout gives it; theirs have 127.
"""

import ctypes

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.histogram import LEVEL_BINS, Histogram
from quantbench.calibration.layout import SYMMETRIC, Layout
from quantbench.calibration.native import load

_FIRST = 128
_STRIDE = 8
# What is clipped counts so many times where levels are finer than symmetric ones: what rounding leaves is noise that
# adds up by chance, what clipping takes is all of one sign, at the largest values. Measured: docs/performance.md.
_CLIPPED = 2.0


def threshold(histogram: Histogram, layout: Layout = SYMMETRIC) -> float:
    """amax (unit of the tensor) among every eighth bin edge from 128 to 2048; the widest among equals."""
    if histogram.amax == 0:
        return histogram.amax
    in_bins = layout.scaled(LEVEL_BINS / histogram.amax)
    cost = costs(histogram.levels(), in_bins)
    if not cost.any():
        return histogram.amax
    best = len(cost) - 1 - int(np.argmin(cost[::-1]))
    return min(int(edges(in_bins)[best]) / LEVEL_BINS * histogram.amax, histogram.amax)


def edges(layout: Layout = SYMMETRIC) -> NDArray[np.float32]:
    """The candidates, in bins, as `layout` is: 128, 136 … 2048, but for those whose levels are closer than bins, which
    cannot show what rounding costs."""
    found = np.arange(_FIRST, LEVEL_BINS + 1, _STRIDE, dtype=np.float32)
    return found[layout.steps(found) >= 1]


def costs(levels: NDArray[np.float64], layout: Layout = SYMMETRIC) -> NDArray[np.float64]:
    """Squared error (in bins, summed over elements) of each of the `edges` of `layout` (in bins), what is clipped
    weighted; zeros where `levels` hold nothing outside bin 0.
    """
    counts = levels.copy()
    counts[0] = counts[1]
    filled = np.flatnonzero(counts)
    centres = (filled + 0.5).astype(np.float32)  # in bins
    candidates = edges(layout)
    clipping = _CLIPPED if -layout.low < LEVEL_BINS else 1.0
    steps, tops = layout.steps(candidates), layout.tops(candidates).astype(np.float32)
    library = load()
    if library is not None:
        found, weights = np.empty(len(steps)), np.ascontiguousarray(counts[filled])
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (centres, weights, steps, tops, found)]
        sizes = [ctypes.c_int64(array.size) for array in (centres, steps)]
        library.quantbench_squared_errors(*pointers[:2], sizes[0], *pointers[2:4], ctypes.c_double(clipping), sizes[1],
                                            pointers[4])  # fmt: skip
        return found
    step, top = steps[:, None], tops[:, None]
    nearest = np.rint(centres / step)
    error = (np.minimum(nearest, top) * step - centres).astype(np.float64) ** 2
    if clipping != 1:
        error[nearest > top] *= clipping
    cost: NDArray[np.float64] = error @ counts[filled]
    return cost
