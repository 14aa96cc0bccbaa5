"""What both trainers do to a quantized model: hold batch norms still, let ranges follow, then freeze; save and resume.

Checkpoints hold tensors and numbers only, so that `weights_only=True` reads them.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quantbench.errors import QuantbenchError
from quantbench.qat.quantizer import SharedRange, follow_weights

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


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        torch.save(dict(state), name)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise QuantbenchError(f"cannot write checkpoint {path}: {error.strerror or error}") from error


def load_state(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`, None where there is none. Raises QuantbenchError for a broken file."""
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise QuantbenchError(f"checkpoint {path} is broken; delete it to start the training again") from error
    if not isinstance(state, dict) or "epoch" not in state:
        raise QuantbenchError(f"{path} is no checkpoint of a quantbench training; choose another --out")
    return state
