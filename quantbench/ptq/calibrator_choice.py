"""The calibrator that a user named: a threshold method, `auto`, a shipped class, or `path/to/file.py:Class`."""

import difflib
from dataclasses import dataclass
from typing import NoReturn

from quantbench.calibration.histogram import Histogram
from quantbench.calibration.layout import SYMMETRIC, Layout
from quantbench.calibration.thresholds import METHODS, Threshold, threshold_method
from quantbench.calibrator import CACHE_ALGORITHMS, Calibrator, load_calibrator, threshold_of
from quantbench.core.auto import AUTO
from quantbench.errors import QuantbenchError
from quantbench.load_object import source_sha256, user_code
from quantbench.shipped import shipped_names
from quantbench.stage import digest

# What the header of calibration.cache names; TensorRT knows no other algorithms.
_ALGORITHMS = {
    "minmax": "MinMaxCalibration",
    "entropy": "EntropyCalibration2",
    "legacy": "LegacyCalibration",
}
# Methods by which a class gives data of its own, so that histograms are of that data.
_FEEDING = ("__init__", "restart", "get_batch", "get_batch_size")


@dataclass(frozen=True, slots=True)
class Choice:
    """`method` is what is recorded, `algorithm` what TensorRT's cache header says, `kind` the class that feeds,
    `content` the hash of the files that define it ("" for quantbench's own methods)."""

    method: str
    threshold: Threshold
    algorithm: str
    kind: type[Calibrator] = Calibrator
    content: str = ""

    @property
    def is_auto(self) -> bool:
        """Whether candidates are judged (`quantbench.core.auto`); there is no threshold of one tensor then."""
        return self.method == AUTO

    def key(self) -> str:
        """Identity of the method, content included."""
        return digest([self.method, self.algorithm, self.content])

    @property
    def feeder(self) -> str:
        """Identity of data that the class brings itself; "" where it takes what it is given."""
        own = (name for cls in _own_classes(self.kind) for name in _FEEDING if name in vars(cls))
        return f"{self.method} {self.content}" if any(own) else ""


def choose(spec: str) -> Choice:
    """Raises QuantbenchError for a name that does not exist."""
    if spec.partition(":")[0] in METHODS:
        return Choice(spec, threshold_method(spec), algorithm_of(spec))
    if spec == AUTO:
        return Choice(AUTO, _no_threshold, algorithm_of(AUTO))
    known = dict.fromkeys((*METHODS, AUTO, *shipped_names("calibrators", ".py")))
    if ":" not in spec and spec not in known:
        near = difflib.get_close_matches(spec, known, n=1, cutoff=0.6)
        meant = f" did you mean {near[0]}?" if near else ""
        raise QuantbenchError(f"no calibrator {spec!r};{meant} there are {', '.join(known)}, or file.py:Class")
    kind = load_calibrator(spec)
    with user_code(spec):
        calibrator = kind()
    content = _content(type(calibrator))
    # A user's file is part of the method: another content is another calibration.
    method = f"{spec} {content[:12]}" if ":" in spec else spec
    algorithm = CACHE_ALGORITHMS[calibrator.get_algorithm()]

    def guarded(histogram: Histogram, layout: Layout = SYMMETRIC) -> float:
        with user_code(spec):
            return float(threshold(histogram, layout))

    threshold = threshold_of(calibrator)
    return Choice(method, guarded, algorithm, type(calibrator), content)


def algorithm_of(method: str) -> str:
    """What the header of calibration.cache says for a threshold method."""
    return _ALGORITHMS.get(method, "EntropyCalibration2")


def _no_threshold(histogram: Histogram, layout: Layout = SYMMETRIC) -> NoReturn:
    raise QuantbenchError(f"calibrator auto judges whole models; here name one of {', '.join(METHODS)}")


def _content(kind: type[Calibrator]) -> str:
    """Hash of the source files of the class and of those that it inherits from."""
    return digest([source_sha256(cls) for cls in _own_classes(kind)])


def _own_classes(kind: type[Calibrator]) -> list[type]:
    return [cls for cls in kind.__mro__ if cls not in (Calibrator, object)]
