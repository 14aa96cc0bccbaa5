"""WebDataset's tar shards: samples whose members share a name up to the first dot (`key.jpg`, `key.cls`, `key.npy`).

The headers are read once, nothing is unpacked, and samples are read by offset in the order of the tar, so that a slow
disk is read forwards. Sources: https://github.com/webdataset/webdataset (tariterators.py: base_plus_ext,
group_by_keys).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from quantbench import limits
from quantbench.errors import QuantbenchError
from quantbench.images.decode import SUFFIXES, BadImageError, decode_bytes
from quantbench.images.remember import read_part, remembered_part_sha256
from quantbench.images.shard_names import shard_files
from quantbench.images.source import combined_sha256
from quantbench.images.tar_members import Member, tar_members
from quantbench.images.truth import PictureLabel
from quantbench.images.unchanged import Unchanged

# Whose headers are read at most: seconds on a disk. Of larger sets some shards are taken, spread evenly.
INDEX_BYTES = 8 * 1024 * limits.MIB
_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")
# Of WebDataset itself: __key__, __url__ …
_META = re.compile(r"(^|/)__[^/]*__(/|$)")


@dataclass(frozen=True, slots=True)
class Sample:
    """Members of one name: the tar's place in the list, the name, and the members by their ending in lower case."""

    shard: int
    key: str
    fields: dict[str, Member]


class Shards:
    """The samples in the tars that `path` stands for, by their place. `most`: so many samples are wanted, spread over
    all; of a set over `INDEX_BYTES` no more shards are looked into than hold them.

    Raises QuantbenchError for tars that are missing, damaged or not to be trusted (`tar_members`), for two members of
    one name, and where there is no sample.
    """

    def __init__(self, path: Path, most: int | None = None) -> None:
        self.path = path
        self.files = shard_files(path)
        self._unchanged = Unchanged()
        every = len(self.files)
        self.samples, self.opened = self._indexed(most)
        self.described = str(path) if self.opened == every else f"{path}, {self.opened} of {every} tars"
        if not self.samples:
            raise QuantbenchError(f"{path} holds no samples: no members like key.jpg or key.npy")

    def _indexed(self, most: int | None) -> tuple[tuple[Sample, ...], int]:
        """Samples, and how many tars they are of."""
        sizes = [_size(file) for file in self.files]
        count = len(self.files)
        if most is not None and sum(sizes) > INDEX_BYTES:
            count = max(1, int(count * INDEX_BYTES / sum(sizes)))
        known: dict[int, list[Sample]] = {}
        while True:
            chosen = np.unique(np.linspace(0, len(self.files) - 1, count).astype(int)).tolist()
            known |= {number: self._of(number) for number in chosen if number not in known}
            found = [sample for number in chosen for sample in known[number]]
            if count == len(self.files) or len(found) >= (most or 0):
                return tuple(found), len(chosen)
            count = min(2 * count, len(self.files))

    def _of(self, number: int) -> list[Sample]:
        file = self.files[number]
        try:
            self._unchanged.note(file)
        except OSError as error:
            raise QuantbenchError(f"{file} cannot be read: {error.strerror or error}") from error
        found: dict[str, Sample] = {}
        for member in tar_members(file):
            hidden = any(part.startswith(".") for part in PurePosixPath(member.name).parts)
            match = None if hidden or _META.search(member.name) else _KEY.fullmatch(member.name)
            if match is None:
                continue
            sample = found.setdefault(match[1], Sample(number, match[1], {}))
            if sample.fields.setdefault(match[2].lower(), member) is not member:
                raise QuantbenchError(f"{file} holds two members {match[0]!r}; each name once")
        return list(found.values())

    def read(self, sample: Sample, field: str) -> bytes:
        """Bytes of the sample's member. Raises BadImageError where it cannot be read or is too large, QuantbenchError
        where the tar was changed since its headers were read."""
        file, member = self.files[sample.shard], sample.fields[field]
        name = self.name(sample, field)
        try:
            limits.check("it", member.size, limits.IMAGE_BYTES)
            return read_part(file, member.offset, member.size)
        except QuantbenchError as error:
            raise BadImageError(name, str(error)) from error
        except OSError as error:
            raise BadImageError(name, f"cannot be read: {error.strerror or error}") from error
        finally:
            self._unchanged.check(file)

    def name(self, sample: Sample, field: str) -> str:
        """The tar's name, and the member's in it."""
        inside = sample.fields[field].name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return f"{self.files[sample.shard].name}/{inside}"

    def sha256(self, members: Iterable[tuple[Sample, str]]) -> str:
        """Hash over some members and their names; the others are not read. Raises BadImageError."""
        return combined_sha256((self._hash(sample, field), self.name(sample, field)) for sample, field in members)

    def _hash(self, sample: Sample, field: str) -> str:
        file, member = self.files[sample.shard], sample.fields[field]
        try:
            self._unchanged.check(file)
            return remembered_part_sha256(file, member.offset, member.size)
        except OSError as error:
            raise BadImageError(self.name(sample, field), f"cannot be read: {error.strerror or error}") from error


def opened(path: Path, most: int | None) -> Shards:
    """`Shards(path, most)`, the last one again where the tars are as they were: headers are read once a run."""
    files = shard_files(path)
    stamps = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
    return _opened(path, most, stamps)


@lru_cache(maxsize=2)
def _opened(path: Path, most: int | None, stamps: tuple[tuple[str, int, int], ...]) -> Shards:
    return Shards(path, most)


LabelOfSample = Callable[[Shards, Sample, str], PictureLabel]


class ShardPictures:
    """Pictures of the samples of `shards`: of each the member with an image's ending. `label_of` gives the label of a
    sample, whose picture is the named member.

    Raises QuantbenchError where no sample has a picture, and where one has several that no ending sets apart.
    """

    def __init__(self, shards: Shards, label_of: LabelOfSample | None = None) -> None:
        self.shards = shards
        found = [(sample, picture_field(shards, sample)) for sample in shards.samples]
        self._items = [(sample, field) for sample, field in found if field]
        self._label_of = label_of
        if not self._items:
            endings = ", ".join(sorted({ending for sample in shards.samples[:100] for ending in sample.fields})[:8])
            raise QuantbenchError(
                f"{shards.path} holds no images: its samples have {endings} (of {', '.join(SUFFIXES)})"
            )

    def __len__(self) -> int:
        return len(self._items)

    @property
    def names(self) -> tuple[str, ...]:
        """Path of each picture in its tar."""
        return tuple(sample.fields[field].name for sample, field in self._items)

    def picture(self, index: int) -> Image.Image:
        """The decoded, upright picture. Raises BadImageError, naming tar and member."""
        sample, field = self._items[index]
        return decode_bytes(self.shards.read(sample, field), self.name(index))

    def name(self, index: int) -> str:
        """`train-000.tar/n01440764/10026.jpg`."""
        return self.shards.name(*self._items[index])

    def label(self, index: int) -> PictureLabel:
        """What `label_of` says, or None."""
        return self._label_of(self.shards, *self._items[index]) if self._label_of else None

    def sha256(self) -> str:
        """Hash over all pictures and their names."""
        return self.shards.sha256(self._items)

    def sha256_of(self, indices: Sequence[int]) -> str:
        """The same over some; the others are not read."""
        return self.shards.sha256(self._items[index] for index in indices)


def picture_field(shards: Shards, sample: Sample) -> str:
    """Ending of the sample's picture, "" where it has none: `jpg` before `png`, which may be its mask."""
    plain = [ending[1:] for ending in SUFFIXES if ending[1:] in sample.fields]
    if plain:
        return plain[0]
    dotted = [field for field in sample.fields if field.endswith(SUFFIXES)]
    if len(dotted) > 1:
        raise QuantbenchError(
            f"{shards.files[sample.shard]}: sample {sample.key} has the pictures {', '.join(dotted[:4])}; a sample's "
            f"name ends at its first dot, and one picture may be .jpg or .png alone"
        )
    return dotted[0] if dotted else ""


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise QuantbenchError(f"{file} cannot be read: {error.strerror or error}") from error
