"""minmax: the largest magnitude seen (TensorRT's IInt8MinMaxCalibrator, symmetric)."""

from quantbench.calibration.histogram import Histogram


def threshold(histogram: Histogram) -> float:
    """amax = max |x| over the calibration set."""
    return histogram.amax
