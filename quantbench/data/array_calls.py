"""Arrays on disk as calls: `.npz` files with one array an input, or one `.npy` file an input in a folder."""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench import limits
from quantbench.data.tensor_inputs import Call, TensorInput, fitted, refuse_unfit
from quantbench.errors import QuantbenchError
from quantbench.images.arrays import DAMAGE, member
from quantbench.images.remember import remembered_sha256
from quantbench.images.source import combined_sha256, text_sha256
from quantbench.images.truth import Label
from quantbench.images.unchanged import Unchanged

LABELS = "labels"


@dataclass(frozen=True, slots=True)
class _Part:
    """The arrays of one file (or of one folder of `.npy`), by input: `rows` samples, or one call as it is (0)."""

    name: str
    files: tuple[tuple[str, Path], ...]
    rows: int
    shared: frozenset[str]


class ArrayCalls:
    """Samples in `.npz` files or `.npy` files named after the inputs.

    Arrays with a first axis of one length N over all inputs are N samples; an array that fits its input as it is and
    has another first axis (a scalar, a table) is shared by them. An input's own batch axis may be left out where there
    is one sample a file. Raises QuantbenchError for files that are damaged, hold pickled objects, or do not fit.
    """

    def __init__(self, inputs: tuple[TensorInput, ...], path: Path) -> None:
        self.inputs = inputs
        self.path = path
        self._cache: tuple[Path, Call] | None = None
        self._labels: dict[int, NDArray[Any] | None] = {}
        self._unchanged = Unchanged()
        self._parts = [self._part(files, name) for name, files in _files(path, inputs)]
        if not self._parts:
            raise QuantbenchError(f"{path} holds no arrays; name .npz files with one array an input, or .npy files")
        self._where = [(number, row) for number, part in enumerate(self._parts) for row in range(max(part.rows, 1))]

    @property
    def shared(self) -> frozenset[str]:
        """Inputs that one array serves for a whole batch."""
        return frozenset().union(*(part.shared for part in self._parts))

    def __len__(self) -> int:
        return len(self._where)

    def call(self, index: int) -> Call:
        """The arrays of one sample, each with its first axis."""
        number, row = self._where[index]
        part = self._parts[number]
        # Before, because reading a mapped file that was cut ends the process; after, because it may change meanwhile.
        self._refuse_changed(part)
        arrays = self._arrays(part)
        found: Call = {}
        for entry in self.inputs:
            array = arrays[entry.name]
            found[entry.name] = array if entry.name in part.shared or not part.rows else array[row : row + 1]
        copied = {name: np.array(array) for name, array in found.items()}
        self._refuse_changed(part)
        return copied

    def name(self, index: int) -> str:
        """`file.npz[row]`."""
        number, row = self._where[index]
        part = self._parts[number]
        return f"{part.name}[{row}]" if part.rows > 1 else part.name

    def label(self, index: int) -> Label:
        """From the array `labels` of the file, or None."""
        number, row = self._where[index]
        if number not in self._labels:
            part = self._parts[number]
            self._refuse_changed(part)
            found = self._read(part, only=LABELS).get(LABELS)
            fits = found is not None and found.dtype.kind in "iu" and found.size == max(part.rows, 1)
            self._labels[number] = np.array(found).reshape(-1) if fits else None
            self._refuse_changed(part)
        labels = self._labels[number]
        return None if labels is None else int(labels[row])

    def sha256(self) -> str:
        """Hash of the files and their names. Raises QuantbenchError where one cannot be read."""
        return self._files_sha256(range(len(self._parts)))

    def sha256_of(self, indices: Sequence[int]) -> str:
        """Hash of the files that hold the samples at `indices`, and of which samples these are."""
        if len(indices) == len(self):
            return self.sha256()
        files = self._files_sha256(dict.fromkeys(self._where[index][0] for index in indices))
        samples = text_sha256(repr([self._where[index] for index in indices]))
        return combined_sha256([(files, "files"), (samples, "samples")])

    def _files_sha256(self, parts: Iterable[int]) -> str:
        files = dict.fromkeys(file for number in parts for _, file in self._parts[number].files)
        try:
            for file in files:
                self._unchanged.note(file)
            return combined_sha256((remembered_sha256(file), file.name) for file in files)
        except OSError as error:
            raise QuantbenchError(f"{error.filename} cannot be read: {error.strerror}") from error

    def _refuse_changed(self, part: _Part) -> None:
        for _, file in part.files:
            self._unchanged.check(file)

    def _part(self, files: dict[str, Path], name: str) -> _Part:
        part = _Part(name, tuple(files.items()), 0, frozenset())
        arrays = self._read(part)
        refuse_unfit(self.inputs, {key: None for key in arrays if key != LABELS}, name)
        batched = [entry for entry in self.inputs if _rows_of(entry, arrays[entry.name])]
        counts = {len(arrays[entry.name]) for entry in batched}
        if len(counts) > 1:
            # Those that fit as they are may be no batches: a table beside samples.
            loose = [
                e for e in batched if not e.fits(arrays[e.name].shape, batch=False) or not (e.shape and e.shape[0])
            ]
            counts = {len(arrays[entry.name]) for entry in loose} or counts
        if len(counts) > 1:
            shown = ", ".join(f"{entry.name} {len(arrays[entry.name])}" for entry in batched)
            raise QuantbenchError(f"{name}: the inputs have different numbers of samples ({shown})")
        rows = counts.pop() if counts else 0
        shared = frozenset(
            entry.name for entry in self.inputs if rows and (entry not in batched or len(arrays[entry.name]) != rows)
        )
        found = _Part(name, part.files, rows, shared)
        self._arrays(found)
        return found

    def _arrays(self, part: _Part) -> Call:
        """Arrays of a part, checked and in the model's dtypes."""
        if self._cache is not None and self._cache[0] == part.files[0][1]:
            return self._cache[1]
        arrays = self._read(part)
        found: Call = {}
        for entry in self.inputs:
            array = arrays[entry.name]
            # A sample without its batch axis, a file each.
            if entry.shape is not None and array.ndim == len(entry.shape) - 1 and not part.rows:
                array = array[None]
            batch = bool(part.rows) and entry.name not in part.shared
            found[entry.name] = fitted(entry, array, part.name, batch=batch or (not part.rows and array.ndim > 0))
        self._cache = (part.files[0][1], found)
        return found

    def _read(self, part: _Part, only: str = "") -> dict[str, NDArray[Any]]:
        """Arrays of `part` by input, mapped where they can be; `only` one of them."""
        found: dict[str, NDArray[Any]] = {}
        for key, file in part.files:
            if file.suffix.lower() == ".npy" and only not in ("", key):
                continue
            try:
                limits.regular_file(file, limits.ANY_BYTES)
                if file.suffix.lower() == ".npy":
                    found[key] = np.load(file, mmap_mode="r", allow_pickle=False)
                else:
                    with np.load(file, allow_pickle=False) as stored:
                        data = [name for name in stored.files if name != LABELS]
                        lone = len(self.inputs) == 1 == len(data)
                        for name in [only] if only in stored.files else [] if only else stored.files:
                            own = self.inputs[0].name if lone and name != LABELS else name
                            found[own] = member(stored, name)
            except DAMAGE as error:
                reason = " ".join(str(error).split())
                raise QuantbenchError(
                    f"{file} cannot be read as an array without pickled objects ({reason})"
                ) from error
        for key, array in found.items():
            if array.dtype.kind not in "fiub" or array.size == 0:
                raise QuantbenchError(f"{part.name} holds {key} as {array.dtype}{list(array.shape)}; expected numbers")
        return found


def holds_arrays(path: Path) -> bool:
    """Whether `path` is an `.npy` or `.npz` file or a folder with nothing else."""
    if path.is_dir():
        endings = {file.suffix.lower() for file in path.iterdir() if file.is_file()}
        return bool(endings) and endings <= {".npy", ".npz"}
    return path.suffix.lower() in (".npy", ".npz")


def save_call(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `arrays` as an `.npz` whose names may be any (`np.savez` takes them as keywords of its own)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _rows_of(entry: TensorInput, array: NDArray[Any]) -> bool:
    """Whether the first axis of `array` counts samples."""
    return (
        array.ndim > 0
        and (entry.shape is None or array.ndim == len(entry.shape))
        and entry.fits(array.shape, batch=True)
    )


def _files(path: Path, inputs: tuple[TensorInput, ...]) -> list[tuple[str, dict[str, Path]]]:
    """(name, input to file) of each part: every `.npz`, all `.npy` of a folder that are named after inputs, or for a
    model of one input every `.npy`."""
    if not path.exists():
        raise QuantbenchError(f"{path} does not exist")
    names = [entry.name for entry in inputs]
    if path.is_file():
        return [(path.name, {names[0] if path.suffix.lower() == ".npy" else "": path})]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".npy", ".npz"))
    packed = [(file.name, {"": file}) for file in files if file.suffix.lower() == ".npz"]
    loose = {file.stem: file for file in files if file.suffix.lower() == ".npy"}
    named = {plain_name(name): name for name in names}
    if loose and {plain_name(stem) for stem in loose} & set(named):
        own = {named.get(plain_name(stem), stem): file for stem, file in loose.items()}
        return [*packed, (path.name, own)]
    if loose and len(names) > 1:
        raise QuantbenchError(
            f"{path} holds {', '.join(sorted(loose)[:3])}; the model takes {', '.join(names)}: name the .npy files so"
        )
    return [*packed, *((file.name, {names[0]: file}) for file in loose.values())]


def plain_name(name: str) -> str:
    """Names of tensors hold what file names cannot: compare letters and digits."""
    return "".join(c if c.isalnum() else "_" for c in name)
