"""Fine-tune a quantized YOLO with ultralytics' own trainer: its data pipeline, losses, EMA, AMP, DDP and validation.

The trainer gets the quantized model instead of a file, and callbacks for what quantization needs. Only saving is
replaced: ultralytics pickles whole models, quantbench writes tensors that load with `weights_only=True`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from quantbench.errors import QuantbenchError
from quantbench.qat.options import TrainOptions
from quantbench.qat.quantizer import follow_weights
from quantbench.qat.training_state import Checkpoints, hold_batch_norms, start_epoch
from quantbench.qat.vision import import_torchvision
from quantbench.qat.yolo import head, task
from quantbench.qat.yolo_data import data_alone, read_data_yaml
from quantbench.records.qat import TrainingFacts


@dataclass(frozen=True, slots=True)
class YoloScenes:
    """The YOLO data set `data` (a data.yaml), the side of the square input, and further settings of ultralytics."""

    data: Path
    size: int
    extra: Mapping[str, Any] = field(default_factory=dict)


def finetune_yolo(
    model: nn.Module, scenes: YoloScenes, checkpoints: Checkpoints, options: TrainOptions, *, device: str = "",
    teacher: nn.Module | None = None,
) -> TrainingFacts:  # fmt: skip
    """Train the calibrated, quantized `model` in place.

    Leaves the EMA weights of the best epoch (ultralytics' fitness on the val split) in `model` and returns what it
    measured: epochs, best epoch, mAP by epoch. `teacher` is the float model to distil from.
    Raises QuantbenchError where the data set cannot be read, and where `checkpoints` are of another training.
    """
    import_torchvision()
    check_classes(model, scenes.data)
    trainer = _make_trainer(model, scenes, checkpoints.folder, options, device)
    hooks = _Hooks(trainer, checkpoints, options)
    trainer.model = model
    if dist.is_available() and dist.is_initialized():
        trainer._setup_ddp = _bind_device(trainer)
    if teacher is not None and options.distill > 0:
        trainer.add_callback("on_train_start", _distil_from(teacher, options.distill))
    if not hooks.finished():
        trainer.train()
    if dist.is_available() and dist.is_initialized():
        dist.barrier()  # the first process writes the checkpoints that all read
    best = checkpoints.best()
    model.load_state_dict({k: v.to(next(model.parameters()).device) for k, v in best["ema"].items()})
    loose: Any = model  # ultralytics hangs its loss on the model; it is no part of the result
    loose.criterion = None
    last = checkpoints.last() or {"history": hooks.history}
    return TrainingFacts(
        epochs=options.epochs, best_epoch=int(best["epoch"]), started_at=hooks.started, history=tuple(last["history"])
    )


def check_classes(model: nn.Module, data: Path) -> None:
    """Raise QuantbenchError where `model` cannot be fine-tuned, or the data.yaml has other classes than it."""
    _trainer_of(model)
    declared = read_data_yaml(data)
    wants = declared.get("nc", len(declared.get("names") or ()))
    has = int(getattr(head(model), "nc", 0))
    if has != wants:
        raise QuantbenchError(f"the model has {has} classes and {data} has {wants}; fine-tuning needs the same classes")


class _Hooks:
    """What quantization changes in the trainer: saving and resuming by tensors, ranges that freeze, norms that hold."""

    def __init__(self, trainer: Any, checkpoints: Checkpoints, options: TrainOptions) -> None:
        self.trainer, self.checkpoints, self.options = trainer, checkpoints, options
        self.history: list[dict[str, float]] = []
        self.started = 0
        trainer.resume_training = self._resume
        trainer.save_model = self._save
        trainer.final_eval = _nothing
        trainer.add_callback("on_train_epoch_start", self._begin_epoch)
        trainer.add_callback("on_train_batch_start", self._begin_batch)
        trainer.add_callback("on_train_epoch_end", self._end_epoch)

    def finished(self) -> bool:
        """Whether what is resumed has all its epochs."""
        state = self.checkpoints.to_resume()
        return state is not None and state["epoch"] + 1 >= self.options.epochs

    def _parts(self) -> tuple[tuple[str, Any], ...]:
        trainer = self.trainer
        return (
            ("model", _core(trainer.model)), ("ema", trainer.ema.ema), ("optimizer", trainer.optimizer),
            ("scaler", trainer.scaler),
        )  # fmt: skip

    def _resume(self, checkpoint: Any) -> None:
        state = self.checkpoints.to_resume()
        if state is None:
            return
        for name, part in self._parts():
            part.load_state_dict(state[name])
        self.trainer.ema.updates = state["updates"]
        self.trainer.best_fitness = state["best_fitness"]
        self.trainer.start_epoch = self.started = state["epoch"] + 1
        self.history.extend(state["history"])

    def _save(self) -> bool:
        trainer = self.trainer
        self.history.append({k: float(v) for k, v in trainer.metrics.items()} | {"epoch": float(trainer.epoch)})
        state = {
            "epoch": trainer.epoch, "updates": trainer.ema.updates, "best_fitness": float(trainer.best_fitness),
            "history": list(self.history), **{name: part.state_dict() for name, part in self._parts()},
        }  # fmt: skip
        if trainer.best_fitness == trainer.fitness:
            self.checkpoints.save_best(trainer.epoch, state["ema"])
        self.checkpoints.save_last(state)
        return True

    def _begin_epoch(self, trainer: Any) -> None:
        start_epoch(_core(trainer.model), trainer.epoch, trainer.epochs, self.options.freeze_after)

    def _begin_batch(self, trainer: Any) -> None:
        core = _core(trainer.model)
        # The trainer has called model.train(); one batch norm tells whether since the last look.
        norm = next((m for m in core.modules() if isinstance(m, nn.BatchNorm2d)), None)
        if norm is not None and norm.training:
            hold_batch_norms(core)

    def _end_epoch(self, trainer: Any) -> None:
        if trainer.epoch < self.options.freeze_after * trainer.epochs:
            follow_weights(trainer.ema.ema)


def _make_trainer(model: nn.Module, scenes: YoloScenes, out: Path, options: TrainOptions, device: str) -> Any:
    seen = data_alone(scenes.data, out / f"data-{os.environ.get('RANK', '0')}")
    amp: Any = False if options.amp == "off" or device == "cpu" else "bf16" if options.amp == "bf16" else True
    settings = {
        "model": "yolov8n.yaml", "data": str(seen), "imgsz": scenes.size, "epochs": options.epochs,
        "batch": options.batch, "optimizer": "SGD", "lr0": options.rate, "lrf": 0.01, "cos_lr": True,
        "momentum": options.momentum, "weight_decay": options.weight_decay, "warmup_epochs": 0.0,
        "patience": options.patience, "amp": amp, "seed": options.seed, "workers": options.workers, "plots": False,
        "project": str(out.parent.resolve()), "name": out.name, "exist_ok": True, "verbose": False,
        "close_mosaic": options.epochs, "save": True, "val": True, **({"device": device} if device else {}),
        **scenes.extra,
    }  # fmt: skip
    trainer = _trainer_of(model)(overrides=settings)
    trainer.read_results_csv = dict  # it reads its CSV through polars, a 54 MB package
    return trainer


def _trainer_of(model: nn.Module) -> Any:
    from ultralytics.models.yolo import detect, segment

    kind = task(model)
    trainers = {"detect": detect.DetectionTrainer, "segment": segment.SegmentationTrainer}
    if kind not in trainers:
        raise QuantbenchError(f"fine-tuning of YOLO {kind} models is not supported; export without --epochs")
    return trainers[kind]


def _core(model: Any) -> nn.Module:
    """The model inside DistributedDataParallel."""
    inner: nn.Module = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    return inner


def _bind_device(trainer: Any) -> Callable[[], None]:
    """In place of the trainer's own start of a process group: there is one already (torchrun, calibration)."""

    def setup() -> None:
        index = int(os.environ["LOCAL_RANK"])
        torch.cuda.set_device(index)
        trainer.device = torch.device("cuda", index)

    return setup


def _nothing() -> None:
    """quantbench measures the result itself."""


def _distil_from(teacher: nn.Module, weight: float) -> Callable[[Any], None]:
    def install(trainer: Any) -> None:
        core: Any = _core(trainer.model)
        device = next(core.parameters()).device
        # In training mode the head returns what the losses compare; batch norms stay as they are.
        ready = teacher.to(device).train()
        hold_batch_norms(ready)
        for parameter in ready.parameters():
            parameter.requires_grad_(False)
        core.criterion = _Distilled(core.init_criterion(), ready, weight)

    return install


class _Distilled:
    """ultralytics' loss plus the mean squared difference of box and class logits from the teacher's."""

    def __init__(self, criterion: Any, teacher: nn.Module, weight: float) -> None:
        self.criterion, self.teacher, self.weight = criterion, teacher, weight

    def __call__(self, predictions: Any, batch: dict[str, Tensor]) -> Any:
        loss, items = self.criterion(predictions, batch)
        with torch.no_grad():
            wanted = self.teacher(batch["img"])
        if isinstance(predictions, dict):
            distance = sum(
                torch.mean((predictions[key].float() - wanted[key].float()) ** 2) for key in ("boxes", "scores")
            )
            loss = loss + self.weight * distance * len(batch["img"])
        return loss, items
