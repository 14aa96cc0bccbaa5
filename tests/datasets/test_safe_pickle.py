"""Pickles of others give arrays or an error; they never get to run code."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from quantbench.errors import QuantbenchError
from quantbench.images.safe_pickle import load_array


class Writes:
    """What a hostile pickle does: rebuild by calling something."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.bool_])
def test_arrays_come_back(protocol: int, dtype: type) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    loaded = load_array(pickle.dumps(array, protocol=protocol), "x")
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)


def test_code_does_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    data = pickle.dumps(Writes(trap))
    with pytest.raises(
        QuantbenchError, match=r"evil\.gz is not a pickled array of numbers \(refers to .*\); not loaded"
    ):
        load_array(data, "evil.gz")
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists()  # the pickle is a real one


@pytest.mark.parametrize("value", [{"a": 1}, [1, 2], "text", np.array(["a"]), np.array([{}], object)])
def test_other_contents_are_refused(value: object) -> None:
    with pytest.raises(QuantbenchError, match="x is not a pickled array of numbers"):
        load_array(pickle.dumps(value), "x")


def test_damage_is_named() -> None:
    data = pickle.dumps(np.arange(1000))
    stream = io.BytesIO(data)
    for cut in (0, 1, 10, 100, len(data) - 1):
        stream.seek(0)
        with pytest.raises(QuantbenchError, match="x is not a pickled array"):
            load_array(stream.read(cut), "x")
