"""Entropy calibrator, version 2: TensorRT's default and the only one for DLA."""

from quantbench.calibrator import Calibrator


class Entropy2(Calibrator):
    """Least KL divergence over 2048 bins; on TensorRT 10 and older an `IInt8EntropyCalibrator2`."""

    method = "entropy"
    algorithm = "ENTROPY_CALIBRATION_2"


CALIBRATOR = Entropy2
