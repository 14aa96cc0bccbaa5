"""mse: the threshold with the least mean squared error of quantizing, clipping included.

Source: pytorch-quantization's and ModelOpt's HistogramCalibrator("mse"): candidates are bin centres, counts of bin 0
are replaced by those of bin 1 (exact zeros have no error). They step through candidates one by one in a Python loop;
here all candidates of a tensor are one matrix.
"""

import ctypes

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.histogram import LEVEL_BINS, Histogram
from quantbench.calibration.native import load

_QMAX = 127
_FIRST = 128
_STRIDE = 8


def threshold(histogram: Histogram) -> float:
    """amax (unit of the tensor) among every eighth bin edge from 128 to 2048; the widest among equals."""
    if histogram.amax == 0:
        return histogram.amax
    cost = costs(histogram.levels())
    if not cost.any():
        return histogram.amax
    best = len(cost) - 1 - int(np.argmin(cost[::-1]))
    return min((_FIRST + _STRIDE * best) / LEVEL_BINS * histogram.amax, histogram.amax)


def costs(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared error (in bins, summed over elements) of candidates 128, 136 … 2048; zeros where `levels` hold nothing
    outside bin 0.
    """
    counts = levels.copy()
    counts[0] = counts[1]
    filled = np.flatnonzero(counts)
    centres = (filled + 0.5).astype(np.float32)  # in bins
    edges = np.arange(_FIRST, LEVEL_BINS + 1, _STRIDE, dtype=np.float32)
    library = load()
    if library is not None:
        found, weights = np.empty(len(edges)), np.ascontiguousarray(counts[filled])
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (centres, weights, edges, found)]
        sizes = [ctypes.c_int64(array.size) for array in (centres, edges)]
        library.quantbench_squared_errors(pointers[0], pointers[1], sizes[0], pointers[2], sizes[1], pointers[3])
        return found
    step = (edges / _QMAX)[:, None]
    error = np.minimum(np.rint(centres / step), _QMAX) * step - centres
    cost: NDArray[np.float64] = (error.astype(np.float64) ** 2) @ counts[filled]
    return cost
