"""Where images come from: a folder, ready arrays, a named data set; and as feeds for the model."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError
from quantbench.images.arrays import SUFFIXES as ARRAY_SUFFIXES
from quantbench.images.arrays import ArrayFiles
from quantbench.images.folder import ImageFolder
from quantbench.images.labels import class_folders, from_file_name, from_folder
from quantbench.images.preprocess import Preprocess
from quantbench.images.source import Prepared, Source, Subset
from quantbench.images.stream import batches
from quantbench.load_object import load_object

Labelled = tuple[dict[str, NDArray[Any]], Sequence[int | None]]


def folder_source(path: Path, preprocess: Preprocess, labels: str = "none") -> Source:
    """Images (or `.npy`/`.npz` batches) at `path`. `labels`: none, folder (sorted folder names), file-name."""
    if path.suffix in ARRAY_SUFFIXES or (path.is_dir() and _only_arrays(path)):
        return ArrayFiles(path)
    if labels == "none":
        return Prepared(ImageFolder(path), preprocess)
    if labels == "file-name":
        return Prepared(ImageFolder(path, label_of=from_file_name()), preprocess)
    names = ImageFolder(path).names
    return Prepared(ImageFolder(path, label_of=from_folder(class_folders(names))), preprocess)


def dataset_source(spec: str, preprocess: Preprocess) -> Source:
    """A data set by `name?key=value&key=value` or `path/to/file.py:function?…`; the function returns pictures.

    Raises QuantbenchError for an unknown name or option.
    """
    name, _, query = spec.partition("?")
    factory = load_object(name if ".py" in name else f"{name}:pictures", kind="datasets")
    known = inspect.signature(factory).parameters
    options: dict[str, Any] = {}
    for key, value in parse_qsl(query):
        if key not in known:
            raise QuantbenchError(f"data set {name} has no option {key!r}; it has {', '.join(known)}")
        options[key] = int(value) if value.lstrip("-").isdigit() else value
    return Prepared(factory(**options), preprocess)


def at_most(source: Source, count: int) -> Source:
    """The whole source, or `count` images spread evenly over it (a folder may be sorted by class)."""
    if len(source) <= count:
        return source
    return Subset(source, tuple(int(i) for i in np.linspace(0, len(source) - 1, count)))


def feeds(source: Source, input_name: str, batch_size: int, *, max_bad: int = 0) -> Iterator[dict[str, NDArray[Any]]]:
    """Batches as feeds; the last may be short. Corrupt images are skipped by name up to `max_bad`."""
    for batch in batches(source, batch_size, max_bad=max_bad):
        yield {input_name: batch.data}


def labelled(source: Source, input_name: str, batch_size: int, *, max_bad: int = 0) -> Iterator[Labelled]:
    """Batches as (feed, labels)."""
    for batch in batches(source, batch_size, max_bad=max_bad):
        yield {input_name: batch.data}, batch.labels


def _only_arrays(path: Path) -> bool:
    files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    return bool(files) and all(file.suffix in ARRAY_SUFFIXES for file in files)
