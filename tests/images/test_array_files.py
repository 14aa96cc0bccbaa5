"""Array files: .npy and .npz batches become samples; pickles and misfits are refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from quantbench.errors import QuantbenchError
from quantbench.images.arrays import ArrayFiles
from quantbench.images.stream import batches

DATA = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)


def test_npy_and_npz_in_one_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DATA[:2])
    np.savez(tmp_path / "b.npz", images=DATA[2:], labels=np.array([7, 8, 9]))
    source = ArrayFiles(tmp_path)
    assert [source.name(i) for i in range(5)] == ["a.npy[0]", "a.npy[1]", "b.npz[0]", "b.npz[1]", "b.npz[2]"]
    assert [source.label(i) for i in range(5)] == [None, None, 7, 8, 9]
    assert np.array_equal(np.concatenate([batch.data for batch in batches(source, 2)]), DATA)


def test_doubles_become_float32(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DATA.astype(np.float64))
    assert ArrayFiles(tmp_path / "a.npy").load(0).dtype == np.float32


def test_integers_stay(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(12, dtype=np.uint8).reshape(2, 6))
    assert ArrayFiles(tmp_path / "a.npy").load(1).tolist() == [6, 7, 8, 9, 10, 11]


def test_key_is_asked_for_where_it_is_unclear(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=DATA, second=DATA * 2)
    with pytest.raises(QuantbenchError, match="holds the arrays first, second; say which"):
        ArrayFiles(tmp_path / "a.npz")
    assert np.array_equal(ArrayFiles(tmp_path / "a.npz", key="second").load(0), DATA[0] * 2)
    with pytest.raises(QuantbenchError, match="none is 'third'"):
        ArrayFiles(tmp_path / "a.npz", key="third")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([[{"a": 1}]], object), allow_pickle=True)
    with pytest.raises(QuantbenchError, match=r"evil\.npy cannot be read as an array without pickled objects"):
        ArrayFiles(tmp_path / "evil.npy")


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"text" * 50])
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_damaged_files_are_named(tmp_path: Path, damage: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(QuantbenchError, match=name):
        ArrayFiles(tmp_path / name)


def test_a_member_that_is_no_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", data=np.zeros((2, 3), np.float32))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("labels", b"0 1")
    with pytest.raises(QuantbenchError, match=r"x.npz cannot be read .*labels in it is no array"):
        ArrayFiles(tmp_path / "x.npz")


def test_truncated_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DATA)
    np.savez(tmp_path / "b.npz", DATA)
    for name in ("a.npy", "b.npz"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(QuantbenchError, match=name):
            ArrayFiles(tmp_path / name)


def test_files_that_do_not_agree(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DATA)
    np.save(tmp_path / "b.npy", DATA[:, :, :2])
    with pytest.raises(QuantbenchError, match="all files must agree"):
        ArrayFiles(tmp_path)


def test_other_faults(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match="does not exist"):
        ArrayFiles(tmp_path / "a.npy")
    with pytest.raises(QuantbenchError, match=r"no \.npy or \.npz"):
        ArrayFiles(tmp_path)
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    with pytest.raises(QuantbenchError, match="expected a batch of numbers"):
        ArrayFiles(tmp_path / "words.npy")
    np.savez(tmp_path / "short.npz", images=DATA, labels=np.arange(3))
    with pytest.raises(QuantbenchError, match="expected 5 integers"):
        ArrayFiles(tmp_path / "short.npz")


def test_hash_follows_the_content(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DATA)
    first = ArrayFiles(tmp_path).sha256()
    np.save(tmp_path / "a.npy", DATA + 1)
    assert ArrayFiles(tmp_path).sha256() != first
