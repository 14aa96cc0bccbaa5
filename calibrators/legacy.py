"""Legacy calibrator: a quantile of |x|, and TensorRT's own regression on top where TensorRT runs it."""

from quantbench.calibrator import Calibrator


class Legacy(Calibrator):
    """On TensorRT 10 and older an `IInt8LegacyCalibrator`, which asks for these two numbers as well."""

    method = "legacy"
    algorithm = "LEGACY_CALIBRATION"

    def get_quantile(self) -> float:
        """Share of all elements that lies within the range, in [0, 1]; NVIDIA's samples use 0.99999."""
        return 0.99999

    def get_regression_cutoff(self) -> float:
        """Share of the maximum at which the regression stops, in [0, 1]; 1 switches it off."""
        return 1.0


CALIBRATOR = Legacy
