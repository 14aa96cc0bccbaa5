"""Fine-tuning for qat-export: the right trainer for the model, accuracy before and after, and what its data are."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from quantbench.data.class_list import read_classes
from quantbench.data.sources import Classes, folder_source
from quantbench.errors import QuantbenchError
from quantbench.evaluate.statistics import share
from quantbench.images.source import Source, combined_sha256
from quantbench.images.stream import batches
from quantbench.progress import Progress
from quantbench.qat import distributed
from quantbench.qat.models import TorchModel
from quantbench.qat.options import TrainOptions
from quantbench.qat.sources import labelled_batches
from quantbench.qat.train_classifier import finetune_classifier, shares
from quantbench.qat.train_yolo import YoloScenes, check_classes, finetune_yolo
from quantbench.qat.training_state import Checkpoints
from quantbench.qat.yolo_data import yolo_sha256
from quantbench.records.qat import TrainingFacts

_EVAL_BATCH = 64
_SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What training gets beside the model: `data` (YOLO data.yaml, or a folder with train/ and val/), where its
    `checkpoints` are, a `teacher` to distil from, and the `plain` float model to compare with."""

    data: Path
    options: TrainOptions
    checkpoints: Checkpoints
    device: torch.device
    teacher: nn.Module | None = None
    plain: nn.Module | None = None


def finetune(model: TorchModel, wanted: FineTuning, progress: Progress) -> TrainingFacts:
    """Train `model.module` in place; what was reached."""
    data, options, device = wanted.data, wanted.options, wanted.device
    teacher, plain = wanted.teacher, wanted.plain
    progress.note(f"Fine-tuning for {options.epochs} epochs on {data}")
    if model.kind == "yolo":
        return finetune_yolo(
            model.module, YoloScenes(data, max(model.size)), wanted.checkpoints, options,
            device=distributed.ultralytics_device(device), teacher=teacher,
        )  # fmt: skip
    train, held_out = _class_folders(model, data)
    classes = int(model.module(model.example.to(device)).shape[1])
    batch = min(options.batch, len(train))

    def accuracy(module: nn.Module) -> float:
        hits, count = top1(module, held_out, device)
        return hits / count

    before = top1(plain, held_out, device) if plain is not None else None
    calibrated = top1(model.module, held_out, device)
    result = finetune_classifier(
        model.module, lambda epoch: labelled_batches(train, shares(len(train), batch, epoch, options.seed), classes),
        len(train) // batch, accuracy, wanted.checkpoints, options, teacher=teacher,
    )  # fmt: skip
    after = top1(model.module, held_out, device)
    named = {"float": before, "calibrated": calibrated, "fine-tuned": after}
    top = {name: share(*value) for name, value in named.items() if value is not None}
    return result.model_copy(update={"top1": top})


def training_sha256(model: TorchModel, data: Path) -> str:
    """Hash over images, labels and preprocessing of `data`; both splits count.

    Raises QuantbenchError where there is no data set that `model` can be trained on: before anything is calibrated.
    """
    if model.kind == "yolo":
        check_classes(model.module, data)
        return yolo_sha256(data)
    sources = _class_folders(model, data)
    return combined_sha256((source.sha256(), split) for source, split in zip(sources, _SPLITS, strict=True))


def _class_folders(model: TorchModel, data: Path) -> tuple[Source, Source]:
    """Training and held-out images; their names hold their class."""
    if not all((data / split).is_dir() for split in _SPLITS):
        raise QuantbenchError(f"data set {data} needs the folders train and val, each with one folder a class")
    # One list for both: a class that the held-out images lack must not move those behind it.
    names = Classes(read_classes(data / "train"))
    train, held_out = (folder_source(data / split, model.preprocess, "folder", names) for split in _SPLITS)
    return train, held_out


def top1(module: nn.Module, source: Source, device: torch.device) -> tuple[int, int]:
    """Images of `source` that `module` gets right, and how many there are."""
    module.eval()
    hits = count = 0
    with torch.no_grad():
        for batch in batches(source, _EVAL_BATCH):
            guessed = module(torch.from_numpy(batch.data).float().to(device)).argmax(1).tolist()
            hits += sum(g == label for g, label in zip(guessed, batch.labels, strict=True))
            count += len(batch)
    return hits, count
