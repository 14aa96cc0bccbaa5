"""Histograms to Ranges by one threshold method."""

from collections.abc import Mapping

from quantbench.calibration.histogram import Histogram, require_finite, summary
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.calibration.thresholds import Threshold


def find_ranges(histograms: Mapping[str, Histogram], method: str, threshold: Threshold) -> Ranges:
    """Ranges of all tensors; `method` is the name that is recorded.

    Raises QuantbenchError where a tensor reached infinity or NaN (`quantbench.calibration.collect.usable` leaves out
    those that nobody needs).
    """
    found = {}
    for name, histogram in histograms.items():
        require_finite(histogram, name)
        amax = threshold(histogram)
        found[name] = TensorRange(amax, method, summary(histogram, amax))
    return Ranges(found)
