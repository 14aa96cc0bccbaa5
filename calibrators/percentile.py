"""How to write your own calibrator: copy this file, change `threshold`, run it.

    quantbench ptq model.onnx --calib-dir imgs/ --calibrator my_calibrator.py:Percentile

A rule of your own runs in quantbench. TensorRT 10 and older always compute thresholds themselves, so there quantbench
calibrates and hands over dynamic ranges (or the calibration cache, which TensorRT reads instead of calibrating). For
data of your own override `get_batch` (host arrays, one an input, None at the end) and `restart` as well.
"""

from quantbench.calibration.histogram import Histogram
from quantbench.calibration.thresholds import percentile
from quantbench.calibrator import Calibrator


class Percentile(Calibrator):
    """Clips the largest 0.01 % of all elements."""

    percentile = 99.99

    def threshold(self, histogram: Histogram) -> float:
        """amax such that `percentile` of the elements of |x| lie within; `histogram` has counts and a bin width."""
        return percentile.threshold(histogram, self.percentile)


CALIBRATOR = Percentile
