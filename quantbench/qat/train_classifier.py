"""Fine-tune a quantized classifier: plain torch, with DistributedDataParallel where there is a process group.

Plain torch, because what a library would bring (devices, AMP, DDP) is ten lines here, and what quantization needs
(frozen batch norms, ranges that freeze, a teacher, EMA, resuming by epoch) none of them brings.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from quantbench.errors import QuantbenchError
from quantbench.qat.options import TrainOptions
from quantbench.qat.quantizer import follow_weights
from quantbench.qat.training_state import Checkpoints, State, hold_batch_norms, start_epoch
from quantbench.records.qat import TrainingFacts

_TEMPERATURE = 4.0  # Hinton et al., arXiv:1503.02531
# Yields (inputs, labels) of this process's share of an epoch.
EpochBatches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]


def shares(count: int, batch: int, epoch: int, seed: int) -> Iterator[np.ndarray[Any, Any]]:
    """Index arrays of this process's batches of a shuffled epoch; `batch` is that of all processes together.

    Every process makes as many steps as the others; a last short batch is left out.
    """
    rank, world = _rank(), _world()
    order = np.random.default_rng([seed, epoch]).permutation(count)
    own = batch // world
    for first in range(0, count - batch + 1, batch):
        yield order[first + rank * own : first + (rank + 1) * own]


def finetune_classifier(
    model: nn.Module, batches: EpochBatches, steps: int, accuracy: Callable[[nn.Module], float],
    checkpoints: Checkpoints, options: TrainOptions, *, teacher: nn.Module | None = None,
) -> TrainingFacts:  # fmt: skip
    """Train the calibrated, quantized `model` in place; leaves the EMA weights of the epoch of best `accuracy`.

    `steps` is the number of batches an epoch (for the cosine). Returns epochs done, best epoch and accuracy by epoch.
    A training that is resumed comes to the same weights, bit for bit, as one that was never interrupted.
    Raises QuantbenchError where the loss is no longer finite, and where `checkpoints` are of another training.
    """
    device = next(model.parameters()).device
    if teacher is not None:
        teacher = teacher.to(device).eval()
    training = _Training(model, options, max(options.epochs * steps, 1))
    first = training.restore(checkpoints.to_resume())
    wrapped: nn.Module = model
    if _world() > 1:
        wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    for epoch in range(first, options.epochs):
        # By epoch, so that dropout draws the same whether or not the training was interrupted before.
        torch.manual_seed(options.seed * 100_003 + epoch)
        frozen = start_epoch(model, epoch, options.epochs, options.freeze_after)
        wrapped.train()
        hold_batch_norms(model)
        for x, y in batches(epoch):
            loss = _loss(wrapped, x.to(device), y.to(device), teacher, options)
            if not torch.isfinite(loss):
                raise QuantbenchError(f"the loss became {float(loss)} in epoch {epoch + 1}; lower --rate")
            training.step(loss)
        if not frozen:
            follow_weights(training.ema)
        history = training.history
        history.append(accuracy(training.ema))
        if _rank() == 0:
            if history[-1] > max(history[:-1], default=-math.inf):
                checkpoints.save_best(epoch, training.ema.state_dict())
            checkpoints.save_last(training.state(epoch))
        _wait()
        if epoch - history.index(max(history)) >= options.patience:
            break
    saved = checkpoints.best()
    model.load_state_dict(saved["ema"])
    model.eval()
    return TrainingFacts(
        epochs=len(training.history), best_epoch=int(saved["epoch"]), started_at=first, history=tuple(training.history)
    )


class _Training:
    """Optimizer, schedule, gradient scaler and EMA of one model: what a resumed run finds again."""

    def __init__(self, model: nn.Module, options: TrainOptions, total: int) -> None:
        self.model, self.options = model, options
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        # Biases, norms and ranges are not decayed.
        groups = [
            {"params": [p for p in self.parameters if p.dim() > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in self.parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, options.rate, momentum=options.momentum, nesterov=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda s: 0.5 * (1 + math.cos(math.pi * min(s, total) / total))
        )
        kind = next(model.parameters()).device.type
        self.scaler = torch.amp.GradScaler(kind, enabled=options.amp == "fp16" and kind == "cuda")
        self.ema = copy.deepcopy(model).eval()
        self.updates = 0
        self.history: list[float] = []

    def step(self, loss: Tensor) -> None:
        """One update by the gradients of `loss`."""
        self.optimizer.zero_grad()
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, self.options.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.updates += 1
        _follow(self.ema, self.model, self.options.ema * (1 - math.exp(-self.updates / 100)))

    def state(self, epoch: int) -> State:
        """All that `restore` needs, after whole epoch `epoch`."""
        return {
            "epoch": epoch, "updates": self.updates, "history": self.history,
            **{name: part.state_dict() for name, part in self._parts()},
        }  # fmt: skip

    def restore(self, state: State | None) -> int:
        """Take up `state`, if there is one; returns the epoch to go on with."""
        if state is None:
            return 0
        for name, part in self._parts():
            part.load_state_dict(state[name])
        self.updates, self.history = state["updates"], state["history"]
        return int(state["epoch"]) + 1

    def _parts(self) -> tuple[tuple[str, Any], ...]:
        return (
            ("model", self.model), ("ema", self.ema), ("optimizer", self.optimizer), ("schedule", self.schedule),
            ("scaler", self.scaler),
        )  # fmt: skip


def _loss(model: nn.Module, x: Tensor, y: Tensor, teacher: nn.Module | None, options: TrainOptions) -> Tensor:
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(options.amp, torch.float32)
    with torch.autocast(x.device.type, kind, enabled=options.amp != "off" and x.device.type == "cuda"):
        logits = model(x)
        loss = F.cross_entropy(logits.float(), y)
        if teacher is not None and options.distill > 0:
            with torch.no_grad():
                wanted = F.softmax(teacher(x).float() / _TEMPERATURE, dim=1)
            soft = F.kl_div(F.log_softmax(logits.float() / _TEMPERATURE, dim=1), wanted, reduction="batchmean")
            loss = loss + options.distill * _TEMPERATURE**2 * soft
    return loss


@torch.no_grad()
def _follow(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every float tensor of the EMA towards the model's."""
    pairs = [
        (mine, theirs)
        for mine, theirs in zip(ema.parameters(), model.parameters(), strict=True)
        if mine.dtype.is_floating_point
    ]
    torch._foreach_lerp_([mine for mine, _ in pairs], [theirs.detach() for _, theirs in pairs], 1 - decay)


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if _world() > 1 else 0


def _wait() -> None:
    if _world() > 1:
        dist.barrier()
