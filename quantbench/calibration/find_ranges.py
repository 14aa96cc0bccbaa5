"""Histograms to Ranges by one threshold method."""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from quantbench.calibration.histogram import Histogram, require_finite, summary
from quantbench.calibration.layout import SYMMETRIC, Layout
from quantbench.calibration.noise import bulk_sqnr_db
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.calibration.thresholds import Threshold

Layouts = Mapping[str, Layout]
ALL_SYMMETRIC: Layouts = MappingProxyType({})


def find_ranges(
    histograms: Mapping[str, Histogram], method: str, threshold: Threshold, layouts: Layouts = ALL_SYMMETRIC
) -> Ranges:
    """Ranges of all tensors; `method` is the name that is recorded. `layouts` of those that are not symmetric.

    Raises QuantbenchError where a tensor reached infinity or NaN (`quantbench.calibration.collect.usable` leaves out
    those that nobody needs).
    """
    found = {}
    for name, histogram in histograms.items():
        require_finite(histogram, name)
        found[name] = range_of(histogram, name, method, threshold(histogram, layouts.get(name, SYMMETRIC)))
    return Ranges(found)


def range_of(histogram: Histogram, name: str, method: str, amax: float) -> TensorRange:
    """`amax` for the tensor `name`, with what its histogram says of it. Raises as `find_ranges`."""
    require_finite(histogram, name)
    facts: dict[str, float | int | None] = {**summary(histogram, amax)}
    facts["bins_filled"] = int(np.count_nonzero(histogram.counts))
    noise = bulk_sqnr_db(histogram, amax)
    facts["bulk_sqnr_db"] = round(noise, 2) if math.isfinite(noise) else None  # JSON has no infinity
    return TensorRange(amax, method, facts)
