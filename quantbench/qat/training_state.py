"""What both trainers do to a quantized model: hold batch norms still, let ranges follow, then freeze; save and resume.

Checkpoints hold tensors and numbers only, so that `weights_only=True` reads them.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quantbench.atomic import atomic_path
from quantbench.errors import QuantbenchError
from quantbench.qat.quantizer import SharedRange, follow_weights

# Tensors, numbers and dicts of them, as torch writes and reads them.
State = dict[str, Any]
LAST, BEST = "last-state.pt", "best-state.pt"
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def hold_batch_norms(model: nn.Module) -> None:
    """Use and keep the running statistics; scale and shift still learn. Call after every `model.train()`."""
    for module in model.modules():
        if isinstance(module, _NORMS):
            module.eval()


def start_epoch(model: nn.Module, epoch: int, epochs: int, freeze_after: float) -> bool:
    """Before each epoch: weight ranges follow the weights until the share `freeze_after` is done; then all ranges,
    learned ones too, stand still. Returns whether they are frozen."""
    frozen = epoch >= freeze_after * epochs
    if not frozen:
        follow_weights(model)
    for module in model.modules():
        if isinstance(module, SharedRange) and module.learned:
            module.scale.requires_grad_(not frozen)
    return frozen


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a training leaves its last whole epoch and its best one. `of` says in short texts what is trained, on what
    and how; with `resume` training goes on after the last whole epoch of the same."""

    folder: Path
    of: Mapping[str, str] = field(default_factory=dict)
    resume: bool = False

    def save_last(self, state: Mapping[str, Any]) -> None:
        """Keep all that going on needs, after a whole epoch."""
        save_tensors(self.folder / LAST, {**state, "of": dict(self.of)})

    def save_best(self, epoch: int, weights: Mapping[str, Any]) -> None:
        """Keep the weights of the best epoch so far."""
        save_tensors(self.folder / BEST, {"epoch": epoch, "ema": dict(weights)})

    def to_resume(self) -> State | None:
        """The state to go on with; None where training begins at the first epoch.

        Raises QuantbenchError for a broken file, and for a state of another training.
        """
        state = self.last() if self.resume else None
        if state is None:
            return None
        if other := _differences(state.get("of", {}), self.of):
            raise QuantbenchError(
                f"cannot resume: {self.folder / LAST} is of another training ({other}); leave --resume out to train "
                f"anew, or choose another --out"
            )
        return state

    def last(self) -> State | None:
        """The last whole epoch, whatever it is of."""
        return _load(self.folder / LAST)

    def best(self) -> State:
        """The best epoch. Raises QuantbenchError where there is none."""
        state = _load(self.folder / BEST)
        if state is None:
            raise QuantbenchError(f"training left no checkpoint in {self.folder}")
        return state


def _differences(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    names = [name for name in dict.fromkeys((*was, *now)) if was.get(name) != now.get(name)]
    return ", ".join(f"{name} {was.get(name, 'unknown')} then, {now.get(name, 'unknown')} now" for name in names)


def save_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` atomically; equal states give equal bytes."""
    # Through a stream: in a file that torch opens itself, every record would bear the temporary file's name.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(dict(state), stream)


def _load(path: Path) -> State | None:
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise QuantbenchError(f"checkpoint {path} is broken; delete it to start the training again") from error
    if not isinstance(state, dict) or "epoch" not in state:
        raise QuantbenchError(f"{path} is no checkpoint of a quantbench training; choose another --out")
    return state
