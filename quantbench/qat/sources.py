"""Images for calibration, training and comparison of torch models."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from quantbench.data.sources import at_most
from quantbench.errors import QuantbenchError
from quantbench.images.open import open_dataset, open_folder
from quantbench.images.source import Source, Subset
from quantbench.images.stream import batches
from quantbench.qat.models import TorchModel
from quantbench.qat.observe import Batches
from quantbench.qat.yolo_data import read_data_yaml, split_sources

PHOTOS = 16
# Called after each batch with the number of images in it.
OnBatch = Callable[[int], None]


def calibration_source(
    model: TorchModel, folder: Path | None, dataset: str | None, data: Path | None, most: int
) -> tuple[Source, str]:
    """Calibration images and, in words, which they are: the folder, the data set, the training images, or photos."""
    if folder is not None:
        return at_most(open_folder(folder, model.preprocess, most=most), most), str(folder)
    if dataset is not None:
        return at_most(open_dataset(dataset, model.preprocess), most), f"data set {dataset}"
    if data is not None:
        train = _train_folder(data)
        return at_most(open_folder(train, model.preprocess), most), f"training images {train}"
    photos = open_dataset("photos", model.preprocess, {"crops": min(most, PHOTOS)})
    return photos, f"{len(photos)} crops of photos from installed packages; name your own with --calib-dir"


def tensor_batches(source: Source, size: int, max_bad: int, on_batch: OnBatch | None = None) -> Batches:
    """Batches of `source` for `calibrate`; in a process group every process yields its own whole batches.

    Batches are cut before they are dealt out, so that each is computed alike whoever computes it.
    """

    def run() -> Iterable[Tensor]:
        rank, world = (dist.get_rank(), dist.get_world_size()) if _grouped() else (0, 1)
        for first in range(rank * size, len(source), size * world):
            part = Subset(source, tuple(range(first, min(first + size, len(source)))))
            for batch in batches(part, size, max_bad=max_bad):
                if on_batch:
                    on_batch(len(batch) * world)
                yield torch.from_numpy(np.asarray(batch.data, np.float32))

    return run


def first_images(source: Source, count: int) -> Tensor:
    """The first images of `source` in one batch, float32."""
    few = Subset(source, tuple(range(min(count, len(source)))))
    return torch.from_numpy(np.concatenate([np.asarray(b.data, np.float32) for b in batches(few, count)]))


def labelled_batches(source: Source, indices: Iterator[np.ndarray], classes: int) -> Iterable[tuple[Tensor, Tensor]]:
    """(images, labels) of each index array. Raises QuantbenchError for an image without a label."""
    for which in indices:
        part = Subset(source, tuple(int(i) for i in which))
        for batch in batches(part, len(which)):
            labels = [label for label in batch.labels if isinstance(label, int)]
            if len(labels) != len(batch) or max(labels) >= classes:
                raise QuantbenchError(
                    f"training image {batch.names[0]}: labels must be folder names, at most {classes} of them"
                )
            yield torch.from_numpy(np.asarray(batch.data, np.float32)), torch.tensor(labels)


def _train_folder(data: Path) -> Path:
    """The folder of training images of a YOLO data.yaml, or `train/` of a class-folder data set."""
    if data.is_dir():
        return data / "train"
    return split_sources(data, read_data_yaml(data), "train")[0]


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()
