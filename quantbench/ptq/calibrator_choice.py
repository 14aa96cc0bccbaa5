"""The calibrator that a user named: a threshold method, a shipped class, or `path/to/file.py:Class`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from quantbench.calibration.thresholds import METHODS, Threshold, threshold_method
from quantbench.calibrator import CACHE_ALGORITHMS, Calibrator, load_calibrator

# What the header of calibration.cache names; TensorRT knows no other algorithms.
_ALGORITHMS = {
    "minmax": "MinMaxCalibration",
    "entropy": "EntropyCalibration2",
    "legacy": "LegacyCalibration",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """`method` is what is recorded, `algorithm` what TensorRT's cache header says, `kind` the class that feeds."""

    method: str
    threshold: Threshold
    algorithm: str
    kind: type[Calibrator] = Calibrator


def choose(spec: str) -> Choice:
    """Raises QuantbenchError for a name that does not exist."""
    if spec.partition(":")[0] in METHODS:
        return Choice(spec, threshold_method(spec), _ALGORITHMS.get(spec, "EntropyCalibration2"))
    calibrator = load_calibrator(spec)()
    file, colon, _ = spec.rpartition(":")
    # The user's file is part of the method: another content is another calibration.
    mark = f" {hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}" if colon and Path(file).is_file() else ""
    return Choice(spec + mark, calibrator.threshold, CACHE_ALGORITHMS[calibrator.get_algorithm()], type(calibrator))
