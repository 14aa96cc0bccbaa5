"""Fine-tuning as a stage of qat-export: the right trainer for the model, and accuracy before and after."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from quantbench.data.class_list import read_classes
from quantbench.data.sources import Classes, folder_source
from quantbench.errors import QuantbenchError
from quantbench.evaluate.statistics import share
from quantbench.images.source import Source
from quantbench.images.stream import batches
from quantbench.progress import Progress
from quantbench.qat import distributed
from quantbench.qat.models import TorchModel
from quantbench.qat.options import TrainOptions
from quantbench.qat.sources import labelled_batches
from quantbench.qat.train_classifier import finetune_classifier, shares
from quantbench.qat.train_yolo import finetune_yolo
from quantbench.records.qat import TrainingFacts

_EVAL_BATCH = 64


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What training gets beside the model: `data` (YOLO data.yaml, or a folder with train/ and val/), `folder` of the
    run, a `teacher` to distil from, and the `plain` float model to compare with."""

    data: Path
    options: TrainOptions
    folder: Path
    device: torch.device
    teacher: nn.Module | None = None
    plain: nn.Module | None = None


def finetune(model: TorchModel, wanted: FineTuning, progress: Progress) -> TrainingFacts:
    """Train `model.module` in place; what was reached."""
    data, options, folder, device = wanted.data, wanted.options, wanted.folder, wanted.device
    teacher, plain = wanted.teacher, wanted.plain
    progress.note(f"Fine-tuning for {options.epochs} epochs on {data}")
    if model.kind == "yolo":
        reached = finetune_yolo(
            model.module, data, model.size, folder / "training", options, device=distributed.ultralytics_device(device),
            teacher=teacher,
        )  # fmt: skip
        return TrainingFacts.model_validate(reached)
    if not (data / "train").is_dir() or not (data / "val").is_dir():
        raise QuantbenchError(f"data set {data} needs the folders train and val, each with one folder a class")
    # One list for both: a class that the held-out images lack must not move those behind it.
    names = Classes(read_classes(data / "train"))
    train = folder_source(data / "train", model.preprocess, "folder", names)
    held_out = folder_source(data / "val", model.preprocess, "folder", names)
    classes = int(model.module(model.example.to(device)).shape[1])
    batch = min(options.batch, len(train))

    def accuracy(module: nn.Module) -> float:
        hits, count = top1(module, held_out, device)
        return hits / count

    before = top1(plain, held_out, device) if plain is not None else None
    calibrated = top1(model.module, held_out, device)
    result = finetune_classifier(
        model.module, lambda epoch: labelled_batches(train, shares(len(train), batch, epoch, options.seed), classes),
        len(train) // batch, accuracy, folder / "training", options, teacher=teacher,
    )  # fmt: skip
    after = top1(model.module, held_out, device)
    named = {"float": before, "calibrated": calibrated, "fine-tuned": after}
    top = {name: share(*value) for name, value in named.items() if value is not None}
    return TrainingFacts.model_validate({**result, "top1": top})


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
