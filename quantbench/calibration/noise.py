"""How much noise a range puts on what most of a tensor's values are, outlier channels aside."""

import numpy as np

from quantbench.calibration.histogram import BINS, Histogram

_QMAX = 127
# Outlier channels hold up to a few in a hundred of the values, and nearly all of the energy: an SQNR over all values
# would not see that the others drown.
_BULK = 0.95


def bulk_sqnr_db(histogram: Histogram, amax: float) -> float:
    """Signal over quantization noise in dB, with the range [-amax, amax], of the smallest 95 % of the values.

    The noise of each value is that of rounding and clipping the centre of its bin, at least that of a uniform step
    (step^2 / 12; Bennett, 1948) and at most the value. Where 95 % lie in bin 0, those are taken for the zeros of a ReLU
    and left out. Infinite where nothing else was counted.
    """
    counts = histogram.counts.astype(np.float64)
    if counts[0] >= _BULK * counts.sum():
        counts[0] = 0
    total = counts.sum()
    if not total or not amax > 0:
        return float("inf")
    before = np.cumsum(counts) - counts
    counts = np.clip(_BULK * total - before, 0, counts)
    centres = (np.arange(BINS) + 0.5) * histogram.bin_width
    centres[0] = histogram.bin_width / 3**0.5  # root mean square
    step = amax / _QMAX
    error = np.minimum(np.rint(centres / step), _QMAX) * step - centres
    noise = np.maximum(error**2, np.minimum(step**2 / 12, centres**2))
    return float(10 * np.log10((counts @ centres**2) / (counts @ noise)))
