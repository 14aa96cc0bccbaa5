"""Histograms to Ranges by one threshold method."""

from collections.abc import Mapping

from quantbench.calibration.histogram import Histogram, summary
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.calibration.thresholds import Threshold


def find_ranges(histograms: Mapping[str, Histogram], method: str, threshold: Threshold) -> Ranges:
    """Ranges of all tensors; `method` is the name that is recorded."""
    found = {}
    for name, histogram in histograms.items():
        amax = threshold(histogram)
        found[name] = TensorRange(amax, method, summary(histogram, amax))
    return Ranges(found)
