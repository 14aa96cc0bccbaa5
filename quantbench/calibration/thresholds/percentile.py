"""percentile: the magnitude below which a given share of all elements lies.

Source: Wu et al., arXiv:2004.09602, section 5.2; the default 99.99 is pytorch-quantization's usual choice.
"""

import numpy as np

from quantbench.calibration.histogram import Histogram
from quantbench.errors import QuantbenchError


def check(percentile: float) -> None:
    """Raise QuantbenchError for a percentile outside its range."""
    if not 0 < percentile <= 100:
        raise QuantbenchError(f"percentile must be over 0 and at most 100, not {percentile}")


def threshold(histogram: Histogram, percentile: float = 99.99) -> float:
    """Upper edge of the bin in which `percentile` (0 < p <= 100) of all elements is reached; zeros count.

    Raises QuantbenchError for a percentile outside its range.
    """
    check(percentile)
    cumulative = np.cumsum(histogram.counts)
    if cumulative[-1] == 0:
        return histogram.amax
    wanted = cumulative[-1] * (percentile / 100)
    index = int(np.searchsorted(cumulative, wanted))
    return min((index + 1) * histogram.bin_width, histogram.amax)
