"""Where images come from: a folder, ready arrays, a named data set; and as feeds for the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError
from quantbench.images.arrays import ArrayFiles
from quantbench.images.decode import BadImageError
from quantbench.images.folder import ImageFolder
from quantbench.images.labels import class_folders, from_file_name, from_folder
from quantbench.images.open import open_dataset, open_folder
from quantbench.images.preprocess import Preprocess
from quantbench.images.source import Source, Subset
from quantbench.images.stream import batches
from quantbench.images.truth import Label
from quantbench.images.yolo_labels import from_yolo

Labelled = tuple[dict[str, NDArray[Any]], Sequence[Label]]


@dataclass(frozen=True, slots=True)
class Images:
    """A source of images with the hash over names and contents of these, and of how they are prepared."""

    source: Source
    sha256: str

    @staticmethod
    def of(source: Source) -> "Images":
        """Hash the images of `source`. Raises QuantbenchError where one cannot be read."""
        return Images(source, source.sha256())

    def key(self) -> str:
        """Their content; where they lie changes nothing."""
        return self.sha256


def folder_source(path: Path, preprocess: Preprocess, labels: str = "none") -> Source:
    """Images (or `.npy`/`.npz` batches) at `path`. `labels`: none, folder (sorted folder names), file-name, yolo.

    Raises QuantbenchError where there is nothing to read, and for boxes of arrays, which have no size of their own.
    """
    if labels == "yolo":
        source = open_folder(path, preprocess, label_of=from_yolo(path))
        if isinstance(source, ArrayFiles):
            raise QuantbenchError(f"--labels yolo goes with image files; {path} holds arrays (.npy, .npz)")
        return source
    if labels == "file-name":
        return open_folder(path, preprocess, label_of=from_file_name())
    if labels == "folder":
        return open_folder(path, preprocess, label_of=from_folder(class_folders(ImageFolder(path).names)))
    return open_folder(path, preprocess)


def dataset_source(spec: str, preprocess: Preprocess) -> Source:
    """A data set by `name?key=value&key=value`, or an adapter at `path/to/file.py?…`.

    Raises QuantbenchError for an unknown name or option.
    """
    name, _, query = spec.partition("?")
    options = {key: int(value) if value.lstrip("-").isdigit() else value for key, value in parse_qsl(query)}
    return open_dataset(name, preprocess, options)


def at_most(source: Source, count: int) -> Source:
    """The whole source, or `count` images spread evenly over it (a folder may be sorted by class)."""
    if len(source) <= count:
        return source
    return Subset(source, tuple(int(i) for i in np.linspace(0, len(source) - 1, count)))


def first_image(source: Source) -> NDArray[Any]:
    """The first image that can be read, as the model gets it. Raises QuantbenchError where none can."""
    faults = []
    for index in range(len(source)):
        try:
            return source.load(index)
        except BadImageError as error:
            faults.append(str(error))
    raise QuantbenchError(f"not one of {len(source)} images can be used; the first: {faults[0]}")


def labels_of(source: Source) -> list[Label]:
    """The label of each image, None for one that cannot be read. Raises QuantbenchError for a label that is broken."""
    labels: list[Label] = []
    for index in range(len(source)):
        try:
            labels.append(source.label(index))
        except BadImageError:
            labels.append(None)
    return labels


def feeds(source: Source, input_name: str, batch_size: int, *, max_bad: int = 0) -> Iterator[dict[str, NDArray[Any]]]:
    """Batches as feeds; the last may be short. Corrupt images are skipped by name up to `max_bad`."""
    for batch in batches(source, batch_size, max_bad=max_bad):
        yield {input_name: batch.data}


def labelled(source: Source, input_name: str, batch_size: int, *, max_bad: int = 0) -> Iterator[Labelled]:
    """Batches as (feed, labels)."""
    for batch in batches(source, batch_size, max_bad=max_bad):
        yield {input_name: batch.data}, batch.labels
