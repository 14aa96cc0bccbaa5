"""legacy: TensorRT's IInt8LegacyCalibrator with its regression off, which is a quantile of |x|.

Source: NVIDIA's reference of IInt8LegacyCalibrator: `getQuantile` is "the quantile (between 0 and 1) that will be used
to select the region maximum when the quantile method is in use", `getRegressionCutoff` "the fraction of the maximum
used to define the regression cutoff". NVIDIA never published the regression, so only cutoff 1 (no regression) exists
here; real legacy caches carry cutoff 1.0 and quantile 0.99999 (tests/data/artefacts/calib, 3D-UNet of MLPerf 0.7).
"""

from quantbench.calibration.histogram import Histogram
from quantbench.calibration.thresholds import percentile

QUANTILE = 0.99999


def threshold(histogram: Histogram, quantile: float = QUANTILE) -> float:
    """amax = the `quantile` (0 < q <= 1) of |x|, as the upper edge of its bin."""
    return percentile.threshold(histogram, quantile * 100)
