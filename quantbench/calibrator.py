"""Calibrator: the contract of TensorRT's INT8 calibrators, on numpy. Subclass it to bring your own data or threshold.

The same instance serves both ends. quantbench's own engine drives it on the CPU (`quantbench.core.drive`);
for TensorRT 10 and older `quantbench.engines.tensorrt_calibrator` wraps it into a true subclass of
`trt.IInt8EntropyCalibrator2` and friends that hands over device pointers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from quantbench.errors import QuantbenchError

if TYPE_CHECKING:
    from quantbench.calibration.histogram import Histogram
    from quantbench.calibration.thresholds import Threshold

Batch = Mapping[str, NDArray[Any]]
OpenBatches = Callable[[], Iterable[Batch]]

# TensorRT's CalibrationAlgoType to the name in the first line of its calibration cache.
CACHE_ALGORITHMS = {
    "ENTROPY_CALIBRATION_2": "EntropyCalibration2",
    "ENTROPY_CALIBRATION": "EntropyCalibration",
    "MINMAX_CALIBRATION": "MinMaxCalibration",
    "LEGACY_CALIBRATION": "LegacyCalibration",
}


class Calibrator:
    """Feeds batches, keeps a cache, and says how a histogram becomes a threshold.

    `method` is what quantbench's engine computes (minmax, entropy, percentile[:99.9], mse, legacy), `algorithm` what
    TensorRT 10 and older run (a key of `CACHE_ALGORITHMS`; it decides the base class there).
    """

    method = "entropy"
    algorithm = "ENTROPY_CALIBRATION_2"

    def __init__(self, batches: OpenBatches | None = None, batch_size: int = 1, cache: Path | None = None) -> None:
        """`batches` opens the data from its beginning: dicts of input name to array [batch_size, …].

        It is called once a pass (calibration makes one). `cache` is where the calibration cache lies or
        will lie; None keeps none.
        """
        self.batches = batches
        self.batch_size = batch_size
        self.cache = cache
        self._running: Iterator[Batch] | None = None

    def restart(self) -> None:
        """Begin again with the first batch; called before each pass."""
        self._running = None

    def get_batch_size(self) -> int:
        """Images in a batch."""
        return self.batch_size

    def get_batch(self, names: Sequence[str]) -> list[NDArray[Any]] | None:
        """The next batch as one C-ordered array an input, in the order of `names`; None after the last."""
        if self._running is None:
            self._running = iter(self.batches()) if self.batches is not None else iter(())
        batch = next(self._running, None)
        if batch is None:
            return None
        missing = [name for name in names if name not in batch]
        if missing:
            raise QuantbenchError(
                f"calibration batches lack input {missing[0]!r}; they hold {', '.join(batch) or 'nothing'}"
            )
        return [batch[name] for name in names]

    def read_calibration_cache(self) -> bytes | None:
        """The cache file's bytes (it replaces calibration), or None where there is none."""
        return self.cache.read_bytes() if self.cache is not None and self.cache.is_file() else None

    def write_calibration_cache(self, cache: bytes) -> None:
        """Keep `cache`, the text of TensorRT's calibration cache; atomic."""
        from quantbench.atomic import write_bytes

        if self.cache is not None:
            write_bytes(self.cache, bytes(cache))

    def get_algorithm(self) -> str:
        """Name of TensorRT's CalibrationAlgoType."""
        return self.algorithm

    def threshold(self, histogram: "Histogram") -> float:
        """amax of one tensor (its unit) from its histogram of |x|; override it for a rule of your own."""
        from quantbench.calibration.thresholds import threshold_method

        return threshold_method(self.method)(histogram)


def threshold_of(calibrator: Calibrator) -> "Threshold":
    """Its rule: the search of its `method`, or what its class makes of a histogram, which knows of no layout."""
    from quantbench.calibration.layout import SYMMETRIC
    from quantbench.calibration.thresholds import threshold_method

    if getattr(calibrator.threshold, "__func__", None) is Calibrator.threshold:
        return threshold_method(calibrator.method)
    return lambda histogram, layout=SYMMETRIC: calibrator.threshold(histogram)


def feeds(calibrator: Calibrator, names: Sequence[str]) -> Iterator[Batch]:
    """One pass over the calibrator's data as dicts, whatever its `get_batch` does inside.

    Raises QuantbenchError where a batch is no list of one numpy array an input (a device pointer, say).
    """
    import numpy as np

    from quantbench.load_object import user_code

    kind = type(calibrator).__name__
    with user_code(kind):
        calibrator.restart()
    while True:
        with user_code(kind):
            batch = calibrator.get_batch(names)
        if not batch:
            return
        if len(batch) != len(names) or not all(isinstance(array, np.ndarray) for array in batch):
            raise QuantbenchError(
                f"{kind}.get_batch returned {len(batch)} × {type(batch[0]).__name__}, not one numpy array for each of "
                f"{', '.join(names)}; return host arrays, quantbench copies them to the device"
            )
        yield dict(zip(names, batch, strict=True))


def load_calibrator(spec: str) -> type[Calibrator]:
    """The class that a user named: a file of `calibrators/` by name (entropy2, minmax …) or `path/to/file.py:Class`.

    Raises QuantbenchError where there is none, or it is no subclass of Calibrator.
    """
    from quantbench.load_object import load_object

    found = load_object(spec) if ":" in spec else load_object(f"{spec}:CALIBRATOR", kind="calibrators")
    if not (isinstance(found, type) and issubclass(found, Calibrator)):
        raise QuantbenchError(f"{spec} is not a subclass of quantbench.calibrator.Calibrator")
    if found.algorithm not in CACHE_ALGORITHMS:
        raise QuantbenchError(f"{spec}: algorithm {found.algorithm!r} is none of {', '.join(CACHE_ALGORITHMS)}")
    return found
