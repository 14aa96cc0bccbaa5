"""A torch checkpoint and the architecture that a recipe names, as an ONNX file."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantbench.atomic import atomic_path
from quantbench.demo.cachedir import cache_dir
from quantbench.errors import QuantbenchError
from quantbench.load_object import load_object

if TYPE_CHECKING:
    from torch import nn

    from quantbench.recipe import Architecture

OPSET = 18
INPUT, OUTPUT = "image", "output"
# Keys under which training scripts keep the weights.
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "model_ema", "ema")


def export_checkpoint(path: Path, architecture: "Architecture") -> Path:
    """Export with a dynamic batch; the file is cached by the content of checkpoint, factory and arguments.

    The checkpoint is loaded without running code from it; the factory is the user's own code and is run.
    Raises QuantbenchError where weights and architecture do not fit, or the export fails.
    """
    target = cache_dir() / f"{path.stem}-{_key(path, architecture)}.onnx"
    if target.is_file():
        return target
    try:
        import torch
    except ImportError as error:
        raise QuantbenchError(f"{path} needs torch to export: pip install 'quantbench[qat]'") from error
    module = build_module(path, architecture)
    example = torch.zeros(2, *architecture.input_shape)
    with atomic_path(target) as temporary:
        torch.onnx.export(
            module,
            (example,),
            str(temporary),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return target


def build_module(path: Path, architecture: "Architecture") -> "nn.Module":
    """The module in evaluation mode with the checkpoint's weights. Raises QuantbenchError where they do not fit."""
    from torch import nn

    from quantbench.qat.safe_load import load_checkpoint

    try:
        module = load_object(architecture.factory)(**architecture.arguments)
    except TypeError as error:
        raise QuantbenchError(f"architecture {architecture.factory} refuses its arguments: {error}") from error
    if not isinstance(module, nn.Module):
        raise QuantbenchError(
            f"architecture {architecture.factory} returns {type(module).__name__}, not a torch module"
        )
    state = _state_dict(load_checkpoint(path), path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise QuantbenchError(f"{path} does not fit {architecture.factory}: {' '.join(lines[:2])[:300]}") from error
    return module.eval()


def _state_dict(loaded: Any, path: Path) -> dict[str, Any]:
    from torch import Tensor, nn

    if isinstance(loaded, nn.Module):
        return dict(loaded.state_dict())
    if isinstance(loaded, dict):
        for key in _STATE_KEYS:
            inner = loaded.get(key)
            if isinstance(inner, nn.Module):
                return dict(inner.state_dict())
            if isinstance(inner, dict):
                loaded = inner
                break
        if loaded and all(isinstance(value, Tensor) for value in loaded.values()):
            return {key.removeprefix("module."): value for key, value in loaded.items()}
    raise QuantbenchError(
        f"{path} holds no state dict; expected tensors by name, or one under {', '.join(_STATE_KEYS)}"
    )


def _key(path: Path, architecture: "Architecture") -> str:
    digest = hashlib.sha256(path.read_bytes())
    digest.update(repr((OPSET, architecture.model_dump())).encode())
    code = Path(architecture.factory.rpartition(":")[0])
    if code.suffix == ".py" and code.is_file():
        digest.update(code.read_bytes())
    return digest.hexdigest()[:16]
