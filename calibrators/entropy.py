"""Entropy calibrator, version 1: TensorRT 3's; kept for engines that were tuned with it."""

from quantbench.calibrator import Calibrator


class Entropy(Calibrator):
    """Least KL divergence; on TensorRT 10 and older an `IInt8EntropyCalibrator`, whose cache header differs."""

    method = "entropy"
    algorithm = "ENTROPY_CALIBRATION"


CALIBRATOR = Entropy
