"""The calibrator that a user named: a threshold method, a shipped class, or `path/to/file.py:Class`."""

from dataclasses import dataclass

from quantbench.calibration.thresholds import Threshold, threshold_method

# What the header of calibration.cache names; TensorRT knows no other algorithms.
_ALGORITHMS = {
    "minmax": "MinMaxCalibration",
    "entropy": "EntropyCalibration2",
    "legacy": "LegacyCalibration",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """`method` is what is recorded, `algorithm` what TensorRT's cache header says."""

    method: str
    threshold: Threshold
    algorithm: str


def choose(spec: str) -> Choice:
    """Raises QuantbenchError for a name that does not exist."""
    return Choice(spec, threshold_method(spec), _ALGORITHMS.get(spec, "EntropyCalibration2"))
