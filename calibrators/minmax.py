"""Min-max calibrator: the whole observed range. The usual choice for transformers and for YOLO."""

from quantbench.calibrator import Calibrator


class MinMax(Calibrator):
    """amax is the largest |x| seen; on TensorRT 10 and older an `IInt8MinMaxCalibrator`."""

    method = "minmax"
    algorithm = "MINMAX_CALIBRATION"


CALIBRATOR = MinMax
