"""The calibrators inside TensorRT's real bindings: true subclasses, right pointers, right answers.

The device is host memory here (there is no GPU): addresses are real and their contents are compared.
"""

from pathlib import Path

import pytest

from quantbench.calibrator import CACHE_ALGORITHMS
from tests.bindings import run_with_bindings

_PRELUDE = """
import ctypes, json, sys
import numpy as np
import tensorrt as trt
from pathlib import Path
from quantbench.calibrator import load_calibrator
from quantbench.engines.tensorrt_calibrator import tensorrt_calibrator
from quantbench.errors import QuantbenchError

class HostBuffer:
    def __init__(self, nbytes):
        self.memory = np.zeros(nbytes, np.uint8)
        self.pointer, self.nbytes = self.memory.ctypes.data, nbytes

class HostDevice:
    name = "host"
    allocated = 0
    def allocate(self, nbytes):
        HostDevice.allocated += 1
        return HostBuffer(nbytes)
    def upload(self, buffer, array, stream=None):
        assert array.flags.c_contiguous
        ctypes.memmove(buffer.pointer, array.ctypes.data, array.nbytes)

data = {
    "image": np.arange(10 * 3 * 4, dtype=np.float32).reshape(10, 4, 3).transpose(0, 2, 1),
    "mask: 1": np.arange(10 * 2, dtype=np.float32).reshape(10, 2),
}
def batches():
    for start in range(0, 10, 4):
        yield {name: values[start : start + 4] for name, values in data.items()}
"""

_FEED = """
cls = load_calibrator(sys.argv[1])
calibrator = cls(batches, 4, Path(sys.argv[2]))
made = tensorrt_calibrator(trt, calibrator, HostDevice())
names = ["mask: 1", "image"]
seen, addresses = [], []
while (pointers := made.get_batch(names)):
    assert all(type(p) is int for p in pointers)
    addresses.append(pointers)
    shapes = {"mask: 1": (4, 2), "image": (4, 3, 4)}
    seen.append([
        np.ctypeslib.as_array(ctypes.cast(p, ctypes.POINTER(ctypes.c_float)), shape=shapes[n]).tolist()
        for n, p in zip(names, pointers)
    ])
before = made.read_calibration_cache()
made.write_calibration_cache(memoryview(b"TRT-101601-EntropyCalibration2\\nimage: 3c010204\\n"))
after = made.read_calibration_cache()
bases = [b.__name__ for b in type(made).__mro__]
print(json.dumps({
    "seen": seen, "addresses": addresses, "allocated": HostDevice.allocated, "bases": bases,
    "is": isinstance(made, trt.IInt8Calibrator), "batch_size": made.get_batch_size(),
    "algorithm": made.get_algorithm().name, "native": getattr(trt, bases[1]).get_algorithm(made).name,
    "before": before, "after": after.decode(), "expected": [
        [data[n][s : s + 4].tolist() for n in names] for s in (0, 4)],
    "legacy": [made.get_quantile(), made.get_regression_cutoff()] if hasattr(made, "get_quantile") else None,
}))
"""


@pytest.mark.parametrize("major", [8, 10])
@pytest.mark.parametrize(
    ("name", "base", "algorithm"),
    [
        ("entropy2", "IInt8EntropyCalibrator2", "ENTROPY_CALIBRATION_2"),
        ("entropy", "IInt8EntropyCalibrator", "ENTROPY_CALIBRATION"),
        ("minmax", "IInt8MinMaxCalibrator", "MINMAX_CALIBRATION"),
        ("legacy", "IInt8LegacyCalibrator", "LEGACY_CALIBRATION"),
        ("percentile", "IInt8EntropyCalibrator2", "ENTROPY_CALIBRATION_2"),
    ],
)
def test_true_subclass_hands_over_the_data(name: str, base: str, algorithm: str, major: int, tmp_path: Path) -> None:
    got = run_with_bindings(major, _PRELUDE + _FEED, name, str(tmp_path / "calibration.cache"))
    assert got["is"]
    assert got["bases"][1:3] == [base, "IInt8Calibrator"]
    assert (got["algorithm"], got["native"]) == (algorithm, algorithm)
    assert got["batch_size"] == 4
    assert got["seen"] == got["expected"], "two whole batches; the short third is left out"
    assert got["addresses"][0] == got["addresses"][1], "buffers are reused"
    assert got["allocated"] == 2
    assert got["before"] is None
    assert got["after"].startswith("TRT-101601-EntropyCalibration2")
    assert (tmp_path / "calibration.cache").read_text() == got["after"]
    assert got["legacy"] == ([0.99999, 1.0] if name == "legacy" else None)


def test_every_algorithm_of_the_bindings_is_known() -> None:
    got = run_with_bindings(
        10, "import json, tensorrt as trt; print(json.dumps(list(trt.CalibrationAlgoType.__members__)))"
    )
    assert set(got) == set(CACHE_ALGORITHMS)


def test_tensorrt_11_is_refused_in_one_line() -> None:
    script = """
try:
    tensorrt_calibrator(trt, load_calibrator("minmax")(batches, 4), HostDevice())
except QuantbenchError as error:
    print(json.dumps(str(error)))
"""
    message = run_with_bindings(11, _PRELUDE + script)
    assert message == (
        "TensorRT 11.4.0.106 has no IInt8MinMaxCalibrator; quantbench calibrates itself: run quantbench ptq"
    )
