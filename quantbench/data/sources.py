"""Where images come from: a folder, ready arrays, a named data set; and as feeds for the model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypeIs

from quantbench.data.calls import Calls, SomeCalls, call_batches
from quantbench.data.class_list import folder_classes
from quantbench.errors import QuantbenchError
from quantbench.images.arrays import ArrayFiles
from quantbench.images.decode import BadImageError
from quantbench.images.folder import ImageFolder, LabelOf
from quantbench.images.labels import class_folders, from_file_name, from_folder
from quantbench.images.open import open_dataset, open_folder, open_shards
from quantbench.images.other_labels import from_coco, from_csv, from_masks
from quantbench.images.preprocess import Preprocess
from quantbench.images.remember import is_known, remember
from quantbench.images.shard_labels import by_path, from_fields
from quantbench.images.shard_names import is_shards
from quantbench.images.shards import ShardPictures, opened
from quantbench.images.sizes import OfSizes
from quantbench.images.source import Pictures, Prepared, Source, Subset
from quantbench.images.stream import batches
from quantbench.images.truth import Label
from quantbench.images.yolo_labels import from_yolo

Sample = TypeVar("Sample")
Labelled = tuple[dict[str, NDArray[Any]], Sequence[Label]]


# Images for a model that takes one, or calls of a model of any inputs.
AnySource = Source | Calls


@dataclass(frozen=True, slots=True)
class Images:
    """A source with the hash over names and contents of its samples, and of how they are prepared."""

    source: AnySource
    sha256: str

    @staticmethod
    def of(source: AnySource) -> "Images":
        """Hash the images of `source`. Raises QuantbenchError where one cannot be read."""
        return Images(source, source.sha256())

    def key(self) -> str:
        """Their content; where they lie changes nothing."""
        return self.sha256

    def is_checked(self, batch_size: int, max_bad: int) -> bool:
        """Whether `check` has nothing to do."""
        return is_known(self._readable(batch_size, max_bad))

    def _readable(self, batch_size: int, max_bad: int) -> str:
        return f"readable in batches of {batch_size} but for {max_bad}: {self.sha256}"

    def check(self, batch_size: int, max_bad: int, on_batch: Callable[[int], None]) -> None:
        """Load every image once, unless that was done before, so that a broken one costs no work that comes first.

        Raises QuantbenchError as the batches would.
        """
        if self.is_checked(batch_size, max_bad):
            return
        for _, labels in labelled(self.source, "", batch_size, max_bad=max_bad):
            on_batch(len(labels))
        remember(self._readable(batch_size, max_bad))


LABELS = ("none", "folder", "file-name", "yolo", "masks", "csv", "coco", "cls")


@dataclass(frozen=True, slots=True)
class Classes:
    """The model's classes: `names` in the order of their numbers, where they are known, and how many answers it has;
    `origin` of the names, for messages."""

    names: tuple[str, ...] = ()
    count: int | None = None
    origin: str = "the model's metadata"


def folder_source(
    path: Path, preprocess: Preprocess, labels: str = "none", classes: Classes | None = None, *, most: int | None = None
) -> Source:
    """Images (or `.npy`/`.npz` batches, or tar shards) at `path`. `labels`: one of LABELS; csv and coco name their file
    as `csv=FILE` (labels.csv in the folder by default), `coco=FILE`, cls perhaps a member of the samples in tar shards,
    `cls=json`. `most`: so many of them will be taken.

    Raises QuantbenchError where there is nothing to read, where folders cannot be told to be this class or that, and
    for labels of arrays that only images can have.
    """
    kind, _, file = labels.partition("=")
    check_labels(labels)
    if kind == "none":
        return open_folder(path, preprocess, most=most)
    if is_shards(path):
        return labelled_shards(path, preprocess, labels, classes or Classes(), most)
    source = open_folder(path, preprocess, label_of=_label_of(path, kind, file, classes or Classes()))
    if isinstance(source, Prepared) and isinstance(source.pictures, ImageFolder) and kind in ("csv", "coco"):
        pictures = source.pictures
        if not any(pictures.label(index) is not None for index in range(len(pictures))):
            raise QuantbenchError(f"--labels {labels} names none of the {len(pictures)} images in {path}")
    if isinstance(source, ArrayFiles):
        raise QuantbenchError(f"--labels {kind} goes with image files; {path} holds arrays (.npy, .npz)")
    return source


def check_labels(labels: str) -> None:
    """Raise QuantbenchError where `labels` is none of LABELS."""
    kind, _, file = labels.partition("=")
    if kind not in LABELS or (file and kind not in ("csv", "coco", "cls")):
        raise QuantbenchError(f"--labels {labels!r} is none of {', '.join(LABELS)}; csv=FILE and coco=FILE name a file")
    if kind == "coco" and not file:
        raise QuantbenchError("--labels coco needs its annotations: --labels coco=instances.json")


def _label_of(path: Path, kind: str, file: str, classes: Classes) -> LabelOf:
    if kind == "cls":
        raise QuantbenchError(f"--labels cls is of samples in tar shards; {path} is no .tar and holds none")
    if kind == "yolo":
        return from_yolo(path)
    if kind == "file-name":
        return from_file_name()
    if kind == "masks":
        return from_masks(path)
    if kind == "csv":
        return from_csv(Path(file) if file else path / "labels.csv", classes.names)
    if kind == "coco":
        return from_coco(Path(file), path, classes.names)
    found = class_folders(ImageFolder(path).names)
    return from_folder(folder_classes(found, classes.names, classes.count, classes.origin))


def labelled_shards(path: Path, preprocess: Preprocess, labels: str, classes: Classes, most: int | None) -> Source:
    """Pictures of tar shards with the labels of their own members (cls), of their paths in the tar (folder, file-name),
    or of a table. Raises QuantbenchError for labels that tars do not have, and where no picture has one."""
    kind, _, file = labels.partition("=")
    if kind == "cls":
        label_of = from_fields(classes.names, file)
    elif kind == "file-name":
        label_of = by_path(from_file_name())
    elif kind == "folder":
        found = class_folders(ShardPictures(opened(path, most)).names)
        label_of = by_path(from_folder(folder_classes(found, classes.names, classes.count, classes.origin)))
    elif kind == "csv" and file:
        label_of = by_path(from_csv(Path(file), classes.names))
    else:
        raise QuantbenchError(
            f"--labels {labels} goes with files; of tar shards there are cls, folder, file-name, csv=FILE"
        )
    source = open_shards(path, preprocess, label_of, most)
    if not isinstance(source, Prepared):
        raise QuantbenchError(f"--labels {kind} goes with image files; {path} holds arrays (.npy, .npz)")
    if all(source.pictures.label(index) is None for index in range(len(source))):
        raise QuantbenchError(f"--labels {labels} labels none of the {len(source)} pictures in {path}")
    return source


def dataset_source(spec: str, preprocess: Preprocess) -> Source:
    """A data set by `name?key=value&key=value`, or an adapter at `path/to/file.py?…`.

    Raises QuantbenchError for an unknown name or option.
    """
    name, _, query = spec.partition("?")
    options = {key: int(value) if value.lstrip("-").isdigit() else value for key, value in parse_qsl(query)}
    return open_dataset(name, preprocess, options)


@overload
def at_most(source: Source, count: int) -> Source: ...
@overload
def at_most(source: AnySource, count: int) -> AnySource: ...
def at_most(source: AnySource, count: int) -> AnySource:
    """The whole source, or `count` samples spread evenly over it (a folder may be sorted by class)."""
    if len(source) <= count:
        return source
    return some(source, tuple(int(i) for i in np.linspace(0, len(source) - 1, count)))


def few_pictures(source: Prepared, count: int) -> Pictures:
    """The pictures of `source` before preprocessing, `count` of them at most, spread evenly."""
    few = at_most(source, count)
    return Subset(source.pictures, few.indices) if isinstance(few, Subset) else source.pictures


def some(source: AnySource, indices: tuple[int, ...]) -> AnySource:
    """The samples at `indices`, in this order."""
    return SomeCalls(source, indices) if is_calls(source) else Subset(source, indices)


def whole_of(source: AnySource) -> AnySource:
    """What `source` is some samples of; itself where it is whole."""
    while isinstance(source, (Subset, SomeCalls)):
        source = source.whole
    return source


def is_calls(source: AnySource) -> TypeIs[Calls]:
    """Whether `source` gives whole calls and not images."""
    return hasattr(source, "call")


def sample_shapes(source: AnySource, input_name: str) -> dict[str, tuple[int, ...]]:
    """Shape of each input as the first sample that can be read has it, -1 for the axis of the batch, and for those that
    differ where images are prepared in several sizes.

    Raises QuantbenchError where none can be read.
    """
    sized = None if is_calls(source) else _of_sizes(source)
    if sized is not None:
        shapes = [array.shape for array in sized.of_each_size()]
        return {input_name: (-1, *(d[0] if len(set(d)) == 1 else -1 for d in zip(*shapes, strict=True)))}
    if not is_calls(source):
        return {input_name: (-1, *_first(source, source.load).shape)}
    first = _first(source, source.call)
    return {n: a.shape if n in source.shared or not a.ndim else (-1, *a.shape[1:]) for n, a in first.items()}


def feed_names(source: AnySource, names: Sequence[str]) -> list[str]:
    """`names` of inputs in the order of feeds: those that grow with the batch first."""
    shared = source.shared if is_calls(source) else frozenset()
    return sorted(names, key=lambda name: name in shared)


def first_image(source: Source) -> NDArray[Any]:
    """The first image that can be read, as the model gets it. Raises QuantbenchError where none can."""
    return _first(source, source.load)


def _first(source: AnySource, load: Callable[[int], Sample]) -> Sample:
    faults = []
    for index in range(len(source)):
        try:
            return load(index)
        except BadImageError as error:
            faults.append(str(error))
    raise QuantbenchError(f"not one of {len(source)} images can be used; the first: {faults[0]}")


def labels_of(source: AnySource) -> list[Label]:
    """The label of each image, None for one that cannot be read. Raises QuantbenchError for a label that is broken."""
    labels: list[Label] = []
    for index in range(len(source)):
        try:
            labels.append(source.label(index))
        except BadImageError:
            labels.append(None)
    return labels


def feeds(
    source: AnySource, input_name: str, batch_size: int, *, max_bad: int = 0
) -> Iterator[dict[str, NDArray[Any]]]:
    """Batches as feeds; the last may be short. Corrupt samples are skipped by name up to `max_bad`.

    `input_name` is that of a source of images; calls know their own.
    """
    if is_calls(source):
        yield from (feed for feed, _ in call_batches(source, batch_size, max_bad=max_bad))
        return
    for batch in batches(source, batch_size, max_bad=max_bad, several_sizes=_of_sizes(source) is not None):
        yield {input_name: batch.data}


def labelled(source: AnySource, input_name: str, batch_size: int, *, max_bad: int = 0) -> Iterator[Labelled]:
    """Batches as (feed, labels)."""
    if is_calls(source):
        yield from call_batches(source, batch_size, max_bad=max_bad)
        return
    for batch in batches(source, batch_size, max_bad=max_bad, several_sizes=_of_sizes(source) is not None):
        yield {input_name: batch.data}, batch.labels


def _of_sizes(source: Source) -> OfSizes | None:
    """What prepares the samples of `source` in several sizes, None where all have one."""
    while isinstance(source, Subset):
        source = source.whole
    return source if isinstance(source, OfSizes) else None
