"""What calibration and evaluation read images through: pictures (undone) and sources (ready for the model)."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray
from PIL import Image

from quantbench.errors import QuantbenchError
from quantbench.images.box_geometry import carried, carried_mask
from quantbench.images.decode import BadImageError
from quantbench.images.preprocess import Preprocess
from quantbench.images.truth import Label, PictureBoxes, PictureLabel, PictureMask


class Pictures(Protocol):
    """Decoded pictures, before preprocessing: a folder, photos of a package, crops of other pictures."""

    def __len__(self) -> int: ...

    def picture(self, index: int) -> Image.Image:
        """Upright picture, mode L or RGB. Raises BadImageError for one that cannot be used. Safe in threads."""
        ...

    def name(self, index: int) -> str:
        """Name for messages and reports, unique in the source."""
        ...

    def label(self, index: int) -> PictureLabel:
        """Class number, boxes in the picture's pixels, or None where there is neither."""
        ...

    def sha256(self) -> str:
        """Hash of all contents and names (hexadecimal), for provenance."""
        ...


class Source(Protocol):
    """Arrays ready for the model, one an image: what `batches`, calibrators and evaluation take."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> NDArray[Any]:
        """[C, H, W] (or [H, W, C] where NHWC is declared). Raises BadImageError. Safe in threads."""
        ...

    def name(self, index: int) -> str:
        """Name for messages and reports, unique in the source."""
        ...

    def label(self, index: int) -> Label:
        """Class number, boxes in pixels of what `load` gives, or None where there is neither."""
        ...

    def sha256(self) -> str:
        """Hash of all contents, names and, where there is one, the preprocessing (hexadecimal)."""
        ...


@dataclass(frozen=True)
class Prepared:
    """Pictures with their declared preprocessing: a Source."""

    pictures: Pictures
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.pictures)

    def load(self, index: int) -> NDArray[Any]:
        """Array of `preprocess.shape`. Raises BadImageError, also for a picture smaller than the crop."""
        picture = self.pictures.picture(index)
        try:
            return self.preprocess(picture)
        except QuantbenchError as error:
            raise BadImageError(self.name(index), str(error)) from error

    def name(self, index: int) -> str:
        """Name of the picture."""
        return self.pictures.name(index)

    def label(self, index: int) -> Label:
        """Label of the picture; boxes and masks are carried through the preprocessing."""
        label = self.pictures.label(index)
        if isinstance(label, PictureMask):
            return carried_mask(label, self.preprocess)
        return carried(label, self.preprocess) if isinstance(label, PictureBoxes) else label

    def sha256(self) -> str:
        """Hash of the pictures and of the preprocessing."""
        return _prepared_sha256(self.pictures.sha256(), self.preprocess)


@dataclass(frozen=True)
class Subset:
    """Some of the images of a source or of pictures, in the order of `indices`."""

    whole: Any
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int) -> NDArray[Any]:
        """As the whole's `load`."""
        array: NDArray[Any] = self.whole.load(self.indices[index])
        return array

    def picture(self, index: int) -> Image.Image:
        """As the whole's `picture`."""
        image: Image.Image = self.whole.picture(self.indices[index])
        return image

    def name(self, index: int) -> str:
        """As the whole's `name`."""
        return str(self.whole.name(self.indices[index]))

    def label(self, index: int) -> Any:
        """As the whole's `label`."""
        return self.whole.label(self.indices[index])

    def sha256(self) -> str:
        """Hash of the images that are chosen, where the whole can tell of these alone; else of the whole and the
        choice."""
        return _chosen_sha256(self.whole, self.indices)


def _chosen_sha256(whole: Any, indices: Sequence[int]) -> str:
    if isinstance(whole, Subset):
        return _chosen_sha256(whole.whole, [whole.indices[index] for index in indices])
    if isinstance(whole, Prepared):
        return _prepared_sha256(_chosen_sha256(whole.pictures, indices), whole.preprocess)
    if hasattr(whole, "sha256_of"):
        return str(whole.sha256_of(indices))
    return combined_sha256([(whole.sha256(), "whole"), (text_sha256(repr(tuple(indices))), "indices")])


def _prepared_sha256(pictures: str, preprocess: Preprocess) -> str:
    return combined_sha256([(pictures, "pictures"), (text_sha256(repr(preprocess)), "preprocess")])


def combined_sha256(entries: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over lines `hash  name`, the text that `sha256sum` prints."""
    return text_sha256("".join(f"{digest}  {name}\n" for digest, name in entries))


def text_sha256(text: str) -> str:
    """SHA-256 of `text` as UTF-8, hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of the bytes of the file at `path`, hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
