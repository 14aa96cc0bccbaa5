"""TensorRT 10 and older: a quantbench Calibrator as a true subclass of `trt.IInt8EntropyCalibrator2` and friends."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from quantbench.calibrator import Calibrator
from quantbench.engines.device import Buffer, Device
from quantbench.errors import QuantbenchError

_BASES = {
    "ENTROPY_CALIBRATION_2": "IInt8EntropyCalibrator2",
    "ENTROPY_CALIBRATION": "IInt8EntropyCalibrator",
    "MINMAX_CALIBRATION": "IInt8MinMaxCalibrator",
    "LEGACY_CALIBRATION": "IInt8LegacyCalibrator",
}


def tensorrt_calibrator(trt: Any, calibrator: Calibrator, device: Device) -> Any:
    """An instance of TensorRT's own calibrator class for `calibrator.get_algorithm()`, to set as
    `config.int8_calibrator`.

    Its `get_batch` copies each host array into one device buffer an input, which all batches share, and returns the
    addresses. A short last batch is left out: TensorRT's batch size is fixed. `trt` is the imported bindings.
    Raises QuantbenchError where these have no such class (TensorRT 11).
    """
    algorithm = calibrator.get_algorithm()
    base = getattr(trt, _BASES[algorithm], None)
    if base is None:
        raise QuantbenchError(
            f"TensorRT {trt.__version__} has no {_BASES[algorithm]}; quantbench calibrates itself: run quantbench ptq"
        )
    feeder = DeviceFeeder(calibrator, device)

    def start(self: Any) -> None:
        base.__init__(self)
        calibrator.restart()

    # Made by type(): the base class is only known at run time.
    methods: dict[str, Any] = {
        "__init__": start,
        "get_batch_size": lambda self: calibrator.get_batch_size(),
        "get_batch": lambda self, names: feeder.get_batch(names),
        "read_calibration_cache": lambda self: calibrator.read_calibration_cache(),
        "write_calibration_cache": lambda self, cache: calibrator.write_calibration_cache(bytes(cache)),
        "get_algorithm": lambda self: trt.CalibrationAlgoType.__members__[algorithm],
    }
    for name in ("get_quantile", "get_regression_cutoff"):
        if hasattr(calibrator, name):
            methods[name] = lambda self, name=name: getattr(calibrator, name)()
    return type(f"{type(calibrator).__name__}{_BASES[algorithm]}", (base,), methods)()


class DeviceFeeder:
    """Host batches to device addresses, one buffer an input, reused."""

    def __init__(self, calibrator: Calibrator, device: Device) -> None:
        self._calibrator = calibrator
        self._device = device
        self._buffers: dict[str, Buffer] = {}

    def get_batch(self, names: Sequence[str]) -> list[int] | None:
        """Addresses in the order of `names`; None after the last whole batch."""
        batch = self._calibrator.get_batch(list(names))
        while batch and len(batch[0]) < self._calibrator.get_batch_size():
            batch = self._calibrator.get_batch(list(names))
        if not batch:
            return None
        pointers = []
        for name, array in zip(names, batch, strict=True):
            held = np.ascontiguousarray(array)
            buffer = self._buffers.get(name)
            if buffer is None or buffer.nbytes < held.nbytes:
                buffer = self._buffers[name] = self._device.allocate(held.nbytes)
            self._device.upload(buffer, held)
            pointers.append(buffer.pointer)
        return pointers
