"""Calibrators on the CPU: data in order, thresholds of the engine, cache semantics, user classes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quantbench.cache.tensorrt import parse
from quantbench.calibrator import CACHE_ALGORITHMS, Calibrator, feeds, load_calibrator
from quantbench.core.drive import calibrate_with
from quantbench.errors import QuantbenchError
from quantbench.shipped import shipped_names
from tests.engines.models import conv_net

_TENSORS = ("x", "r0", "r1", "r2")


def _batches() -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    for _ in range(4):
        yield {"x": rng.standard_normal((2, 3, 16, 16)).astype(np.float32)}


def test_shipped_ones_load_by_name_and_differ_as_tensorrt_does() -> None:
    names = list(shipped_names("calibrators", ".py"))
    assert {"entropy", "entropy2", "legacy", "minmax", "percentile"} <= set(names)
    algorithms = {name: load_calibrator(name)().get_algorithm() for name in names}
    assert {algorithms[n] for n in ("entropy", "entropy2", "legacy", "minmax")} == set(CACHE_ALGORITHMS)


@pytest.mark.parametrize("name", ["entropy2", "entropy", "minmax", "legacy", "percentile"])
def test_calibrates_and_writes_a_cache_that_it_reads_back(name: str, tmp_path: Path) -> None:
    cache = tmp_path / "c.cache"
    calibrator = load_calibrator(name)(_batches, 2, cache)
    ranges = calibrate_with(conv_net(), calibrator, _TENSORS, threads=1)
    observed = max(float(np.abs(batch["x"]).max()) for batch in _batches())
    assert 0 < ranges["x"].amax <= observed
    if name == "minmax":
        assert ranges["x"].amax == observed
    parsed = parse(cache.read_text())
    assert parsed.algorithm == CACHE_ALGORITHMS[calibrator.get_algorithm()]
    assert [entry.name for entry in parsed.entries] == list(_TENSORS)

    def no_data() -> Iterator[dict[str, np.ndarray]]:
        raise AssertionError("a cache replaces calibration")

    again = calibrate_with(conv_net(), load_calibrator(name)(no_data, 2, cache), _TENSORS)
    for tensor in _TENSORS:
        assert again[tensor].amax == pytest.approx(ranges[tensor].amax, rel=1e-6)


def test_cache_of_another_model_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "c.cache"
    cache.write_text("TRT-8601-EntropyCalibration2\nx: 3c010204\n")
    with pytest.raises(QuantbenchError, match=r"lacks 3 of 4 tensors, first 'r0'"):
        calibrate_with(conv_net(), load_calibrator("entropy2")(_batches, 2, cache), _TENSORS)


def test_a_user_class_brings_its_own_data_and_rule(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from quantbench.calibrator import Calibrator\n"
        "class Half(Calibrator):\n"
        "    def restart(self):\n"
        "        self.left = 3\n"
        "    def get_batch(self, names):\n"
        "        if not self.left:\n"
        "            return None\n"
        "        self.left -= 1\n"
        "        return [np.full((2, 3, 16, 16), 2.0 + self.left, np.float32)]\n"
        "    def threshold(self, histogram):\n"
        "        return histogram.amax / 2\n"
    )
    found = load_calibrator(f"{file}:Half")
    ranges = calibrate_with(conv_net(), found(), ("x",), threads=1)
    assert ranges["x"].amax == 2.0


def test_get_batch_follows_the_order_of_names_and_ends_with_none() -> None:
    first, second = np.zeros(2), np.ones(2)
    calibrator = Calibrator(lambda: [{"b": second, "a": first}], 2)
    got = calibrator.get_batch(["a", "b"])
    assert got is not None
    assert got[0] is first
    assert got[1] is second
    assert calibrator.get_batch(["a", "b"]) is None
    calibrator.restart()
    assert calibrator.get_batch(["b"]) is not None


def test_faults_are_one_line() -> None:
    with pytest.raises(QuantbenchError, match="batches lack input 'y'; they hold x"):
        Calibrator(_batches).get_batch(["y"])
    with pytest.raises(QuantbenchError, match="no calibrator 'entropi'; there are entropy, entropy2"):
        load_calibrator("entropi")

    class Pointers(Calibrator):
        def get_batch(self, names):  # what a class written for TensorRT alone does
            return [140_000_000]

    with pytest.raises(QuantbenchError, match="return host arrays"):
        next(feeds(Pointers(), ["x"]))


def test_a_class_that_is_no_calibrator_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.py"
    file.write_text("class Thing:\n    pass\n")
    with pytest.raises(QuantbenchError, match="not a subclass"):
        load_calibrator(f"{file}:Thing")
