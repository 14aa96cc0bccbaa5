"""Arrays: `.npy` and `.npz` files as a source of ready inputs."""

import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench import limits
from quantbench.errors import QuantbenchError
from quantbench.images.remember import remembered_sha256
from quantbench.images.source import combined_sha256, text_sha256
from quantbench.images.unchanged import Unchanged

SUFFIXES = (".npy", ".npz")
# What numpy raises for files that are no arrays, whole or in part; SystemError: Python 3.12's tokenizer on a header.
DAMAGE = (
    OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, SyntaxError, MemoryError,
    OverflowError, NotImplementedError, RuntimeError, SystemError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class ArrayFiles:
    """Inputs in `.npy`/`.npz` files: each array is a batch [N, ...]; nothing is preprocessed.

    `path` is one file or a folder of them (sorted by name). An `.npz` holds the inputs under `key` (default: its only
    array, or one called `data`, `images`, `x` or `input`) and perhaps integer labels [N] under `labels`. `.npy` files
    are mapped, not read into memory. Raises QuantbenchError for files that are missing, damaged, hold pickled objects,
    or do not fit together.
    """

    def __init__(self, path: Path | str, key: str | None = None) -> None:
        self.path = Path(path)
        self.files = _list(self.path)
        self._arrays: list[NDArray[Any]] = []
        self._labels: list[NDArray[Any] | None] = []
        self._unchanged = Unchanged()
        for file in self.files:
            self._unchanged.note(file)
            array, labels = _open(file, key)
            first = self._arrays[0] if self._arrays else array
            if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
                raise QuantbenchError(
                    f"{file} holds {array.dtype}{list(array.shape[1:])} a sample, {self.files[0]} "
                    f"{first.dtype}{list(first.shape[1:])}; all files must agree"
                )
            self._arrays.append(array)
            self._labels.append(labels)
        self._where = [(number, row) for number, array in enumerate(self._arrays) for row in range(len(array))]

    def __len__(self) -> int:
        return len(self._where)

    def load(self, index: int) -> NDArray[Any]:
        """One sample, as stored; float64 becomes float32, since no network takes doubles from images."""
        number, row = self._where[index]
        # Before, because reading a mapped file that was cut ends the process; after, because it may change meanwhile.
        self._unchanged.check(self.files[number])
        sample: NDArray[Any] = np.array(self._arrays[number][row])
        self._unchanged.check(self.files[number])
        return sample.astype(np.float32) if sample.dtype == np.float64 else sample

    def name(self, index: int) -> str:
        """`file.npy[row]`."""
        number, row = self._where[index]
        return f"{self.files[number].name}[{row}]"

    def label(self, index: int) -> int | None:
        """From the `labels` array of the `.npz`, or None."""
        number, row = self._where[index]
        labels = self._labels[number]
        return None if labels is None else int(labels[row])

    def sha256(self) -> str:
        """Hash over the files and their names."""
        return combined_sha256((self._hash(file), file.name) for file in self.files)

    def sha256_of(self, indices: Sequence[int]) -> str:
        """Hash over the files that hold some of the samples, and over which these are; other files are not read."""
        if len(indices) == len(self):
            return self.sha256()
        used = sorted({self._where[index][0] for index in indices})
        files = [(self._hash(self.files[number]), self.files[number].name) for number in used]
        return combined_sha256([*files, (text_sha256(repr([self._where[index] for index in indices])), "samples")])

    def _hash(self, file: Path) -> str:
        self._unchanged.check(file)
        return remembered_sha256(file)


def _list(path: Path) -> list[Path]:
    if not path.exists():
        raise QuantbenchError(f"{path} does not exist")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise QuantbenchError(f"no .npy or .npz files in {path}")
        return files
    if path.suffix.lower() not in SUFFIXES:
        raise QuantbenchError(f"{path} is neither an .npy nor an .npz file")
    return [path]


def member(stored: Mapping[str, Any], name: str) -> NDArray[Any]:
    """The array `name` of an opened `.npz`. Raises ValueError where it is none: numpy gives the bytes of others."""
    found = stored[name]
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{name} in it is no array")
    return found


def _open(file: Path, key: str | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    labels = None
    try:
        limits.regular_file(file, limits.ANY_BYTES)
        if file.suffix.lower() == ".npy":
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        else:
            with np.load(file, allow_pickle=False) as stored:
                array = member(stored, _key(file, stored.files, key))
                labels = member(stored, "labels") if "labels" in stored.files else None
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise QuantbenchError(f"{file} cannot be read as an array without pickled objects ({reason})") from error
    if array.ndim < 2 or array.dtype.kind not in "fiu" or array.size == 0:
        raise QuantbenchError(f"{file} holds {array.dtype}{list(array.shape)}; expected a batch of numbers [N, ...]")
    if labels is not None and (labels.shape != (len(array),) or labels.dtype.kind not in "iu"):
        raise QuantbenchError(
            f"{file}: labels are {labels.dtype}{list(labels.shape)}; expected {len(array)} integers, one a sample"
        )
    return array, labels


def _key(file: Path, keys: list[str], wanted: str | None) -> str:
    candidates = [name for name in keys if name != "labels"]
    if wanted is not None and wanted in candidates:
        return wanted
    if wanted is None:
        for name in ("data", "images", "x", "input"):
            if name in candidates:
                return name
        if len(candidates) == 1:
            return candidates[0]
    raise QuantbenchError(
        f"{file} holds the arrays {', '.join(keys) or '(none)'}; " + (f"none is {wanted!r}" if wanted else "say which")
    )
