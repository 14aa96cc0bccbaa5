"""mse: the threshold with the least mean squared error of quantizing, clipping included.

Source: pytorch-quantization's and ModelOpt's HistogramCalibrator("mse"): candidates are bin centres, counts of bin 0
are replaced by those of bin 1 (exact zeros have no error). They step through candidates one by one in a Python loop;
here all candidates of a tensor are one matrix.
"""

import numpy as np

from quantbench.calibration.histogram import BINS, Histogram

_QMAX = 127
_FIRST = 128
_STRIDE = 8


def threshold(histogram: Histogram) -> float:
    """amax (unit of the tensor) among every eighth bin edge from 128 to 2048; the widest among equals."""
    counts = histogram.counts.astype(np.float64)
    counts[0] = counts[1]
    if counts.sum() == 0 or histogram.amax == 0:
        return histogram.amax
    filled = np.flatnonzero(counts)
    centres = (filled + 0.5).astype(np.float32)  # in bins
    weights = counts[filled]
    edges = np.arange(_FIRST, BINS + 1, _STRIDE, dtype=np.float32)
    step = (edges / _QMAX)[:, None]
    error = np.minimum(np.rint(centres / step), _QMAX) * step - centres
    cost = (error.astype(np.float64) ** 2) @ weights
    best = len(cost) - 1 - int(np.argmin(cost[::-1]))
    return min(float(edges[best]) * histogram.bin_width, histogram.amax)
