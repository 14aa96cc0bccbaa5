"""Arrays in tar shards: `key.npy`, an input each as `key.NAME.npy`, or an `.npz` of all inputs; one sample a key."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError
from quantbench.images.arrays import DAMAGE, member
from quantbench.images.decode import SUFFIXES, BadImageError
from quantbench.images.shards import Sample, Shards
from quantbench.images.truth import Label

_LABEL = "cls"


def shards_hold_arrays(shards: Shards) -> bool:
    """Whether the first sample has arrays and no picture."""
    fields = shards.samples[0].fields
    return any(map(_is_array, fields)) and not any(f".{field}".endswith(SUFFIXES) for field in fields)


def _arrays_of(shards: Shards, sample: Sample) -> dict[str, NDArray[Any]]:
    """Arrays of a sample by name, "" for that of `key.npy`. Raises BadImageError, naming tar and member, for what is no
    array, holds pickled objects, or is empty."""
    found: dict[str, NDArray[Any]] = {}
    for field in filter(_is_array, sample.fields):
        name = shards.name(sample, field)
        stream = io.BytesIO(shards.read(sample, field))
        try:
            if field.endswith("npz"):
                with np.load(stream, allow_pickle=False) as stored:
                    found |= {key: member(stored, key) for key in stored.files}
            else:
                found[field.removesuffix("npy").rstrip(".")] = np.lib.format.read_array(stream, allow_pickle=False)
        except DAMAGE as error:
            reason = " ".join(str(error).split())
            raise BadImageError(name, f"cannot be read as an array without pickled objects ({reason})") from error
        if any(array.dtype.kind not in "fiub" or array.size == 0 for array in found.values()):
            raise BadImageError(name, "holds no numbers")
    return found


def _array_members(shards: Shards, indices: Sequence[int]) -> list[tuple[Sample, str]]:
    """The members that hold the arrays of some samples."""
    some = (shards.samples[index] for index in indices)
    return [(sample, field) for sample in some for field in sample.fields if _is_array(field)]


def _array_label(shards: Shards, sample: Sample) -> Label:
    """The number in the sample's `.cls`, None where there is none."""
    if _LABEL not in sample.fields:
        return None
    text = shards.read(sample, _LABEL).strip()
    return int(text) if text.isdigit() and len(text) < 10 else None


class ArraySamples:
    """Samples of shards that are arrays, whatever is made of them."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards.samples)

    def arrays(self, index: int) -> dict[str, NDArray[Any]]:
        """The arrays of one sample, by name. Raises BadImageError where one cannot be read."""
        return _arrays_of(self.shards, self.shards.samples[index])

    def name(self, index: int) -> str:
        """Tar and member."""
        sample = self.shards.samples[index]
        return self.shards.name(sample, next(filter(_is_array, sample.fields), next(iter(sample.fields))))

    def label(self, index: int) -> Label:
        """The number in `.cls`, or None."""
        return _array_label(self.shards, self.shards.samples[index])

    def sha256(self) -> str:
        """Hash over all arrays and their names."""
        return self.sha256_of(range(len(self)))

    def sha256_of(self, indices: Sequence[int]) -> str:
        """The same over some samples; the others are not read."""
        return self.shards.sha256(_array_members(self.shards, indices))


class ShardArrays(ArraySamples):
    """A source of the one array of each sample, as stored, without the axis of the batch."""

    def load(self, index: int) -> NDArray[Any]:
        """The array; float64 becomes float32. Raises BadImageError, QuantbenchError where there are several."""
        found = self.arrays(index)
        if len(found) != 1:
            raise QuantbenchError(f"{self.name(index)} holds {len(found)} arrays; one each is wanted here")
        (array,) = found.values()
        return array.astype(np.float32) if array.dtype == np.float64 else array


def _is_array(field: str) -> bool:
    return f".{field}".endswith((".npy", ".npz"))
