"""A torch model by what the user names: an ultralytics checkpoint, a torchvision name, or an architecture of theirs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.errors import QuantbenchError
from quantbench.images.preprocess import Preprocess, preset
from quantbench.json_types import JsonObject
from quantbench.load_object import load_object, user_code
from quantbench.qat import yolo
from quantbench.qat.safe_load import load_checkpoint
from quantbench.qat.vision import import_torchvision
from quantbench.recipe import Architecture

# (height, width)
_YOLO_SIZE = (640, 640)
_CLASSIFIER_SIZE = (224, 224)


@dataclass(frozen=True)
class TorchModel:
    """A float model in evaluation mode with all that calibration and export need to know of it."""

    module: nn.Module
    name: str
    kind: str  # "yolo" or "classifier"
    example: Tensor
    preprocess: Preprocess
    preprocess_origin: str
    input_name: str
    output_names: tuple[str, ...]
    float_modules: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return int(self.example.shape[-2]), int(self.example.shape[-1])


def load_model(
    name: str, *, weights: Path | None = None, architecture: Architecture | None = None,
    size: tuple[int, int] | None = None, preprocess: str | JsonObject | None = None, trust: bool = False,
) -> TorchModel:  # fmt: skip
    """The model called `name`: a checkpoint file, or the name of a torchvision classifier with `weights`. `size`:
    (height, width) of the input.

    Raises QuantbenchError where there is no such file or name, where the checkpoint is refused (see safe_load), or
    where weights and architecture do not fit.
    """
    path = Path(name)
    if architecture is not None:
        module = _build(architecture)
        _fill(module, weights or path, trust)
        shape = architecture.input_shape
        if len(shape) != 3:
            raise QuantbenchError(f"architecture: input_shape is {list(shape)}; it takes [channels, height, width]")
        return _classifier(module, Path(name).stem, size or (shape[1], shape[2]), preprocess, shape[0])
    if path.suffix in (".pt", ".pth") or path.exists():
        loaded = load_checkpoint(path, trust=trust)
        if yolo.is_yolo(loaded):
            return _yolo(yolo.yolo_model(loaded), path.stem, size, preprocess)
        if isinstance(loaded, nn.Module):
            return _classifier(loaded.float(), path.stem, size or _CLASSIFIER_SIZE, preprocess)
        raise QuantbenchError(
            f"{path} holds weights without an architecture; name one: quantbench qat-export resnet18 --weights {path}, "
            f"or architecture: in a recipe"
        )
    module = _torchvision(name, weights, trust)
    return _classifier(module, name, size or _CLASSIFIER_SIZE, preprocess)


def _yolo(module: nn.Module, name: str, size: tuple[int, int] | None, preprocess: Any) -> TorchModel:
    classify = yolo.task(module) == "classify"
    size = size or (_CLASSIFIER_SIZE if classify else _YOLO_SIZE)
    declared = Preprocess(shortest=max(size), crop=size, scale=1 / 255) if classify else None
    steps, origin = _preprocess(preprocess, declared or preset("yolo", letterbox=size), "yolo")
    return TorchModel(
        module, name, "yolo", yolo.example_input(module, size), steps, origin, "images",
        yolo.output_names(module), yolo.float_modules(module),
    )  # fmt: skip


def _classifier(module: nn.Module, name: str, size: tuple[int, int], preprocess: Any, channels: int = 3) -> TorchModel:
    height, width = size
    long = max(height, width)
    default = preset("imagenet", shortest=max(long * 256 // 224, long), crop=(height, width))
    if channels == 1:
        default = replace(default, channels="GRAY", mean=(sum(default.mean) / 3,), std=(sum(default.std) / 3,))
    steps, origin = _preprocess(preprocess, default, "imagenet")
    if steps.channel_count != channels:
        raise QuantbenchError(
            f"the model takes {channels} channels, pictures have {steps.channel_count} ({steps.channels}); qat-export "
            f"takes models of 1 (channels: GRAY) and 3 channels"
        )
    example = torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    return TorchModel(module.eval(), name, "classifier", example, steps, origin, "input", ("logits",))


def _preprocess(declared: str | JsonObject | None, default: Preprocess, family: str) -> tuple[Preprocess, str]:
    if declared is None or declared == family:
        return default, f"default of {family} models"
    if isinstance(declared, str):
        size = default.crop or default.letterbox
        chosen = preset(declared)
        fits = {"letterbox": size} if chosen.letterbox else {"crop": size, "shortest": default.shortest}
        return preset(declared, **fits), f"preset {declared}"
    return Preprocess.from_json(declared), "declared in the recipe"


def _build(architecture: Architecture) -> nn.Module:
    factory = load_object(architecture.factory)
    with user_code(architecture.factory):
        module = factory(**architecture.arguments)
    if not isinstance(module, nn.Module):
        raise QuantbenchError(f"architecture {architecture.factory} returns {type(module).__name__}, no torch module")
    return module


def _torchvision(name: str, weights: Path | None, trust: bool) -> nn.Module:
    models = import_torchvision().models
    if name not in models.list_models(module=models):
        raise QuantbenchError(
            f"{name} is neither a file nor a torchvision classifier; give a checkpoint (.pt), or a recipe with an "
            f"architecture"
        )
    if weights is None:
        raise QuantbenchError(f"no weights for {name}; give --weights FILE.pth")
    state = _state(load_checkpoint(weights, trust=trust), weights)
    head = next((v for k, v in reversed(state.items()) if v.dim() == 2), None)
    settings: JsonObject = {"num_classes": int(head.shape[0])} if head is not None else {}
    if name == "mobilenet_v2" and "features.18.0.weight" in state:
        settings["width_mult"] = _width(state)
    module: nn.Module = models.get_model(name, weights=None, **settings)
    _load_state(module, state, weights)
    return module


def _width(state: dict[str, Tensor]) -> float:
    """Width multiplier of a MobileNetV2, from its first inverted residual with 24 channels (rounded to eights)."""
    channels = int(state["features.2.conv.2.weight"].shape[0])
    return {24: 1.0, 16: 0.5, 32: 1.4, 8: 0.25}.get(channels, channels / 24)


def _fill(module: nn.Module, weights: Path, trust: bool) -> None:
    loaded = load_checkpoint(weights, trust=trust)
    state = loaded.state_dict() if isinstance(loaded, nn.Module) else _state(loaded, weights)
    _load_state(module, state, weights)


def _state(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, under the keys that trainers use for it, without DDP's prefix."""
    for key in ("state_dict", "model_state_dict", "model", "ema", "net", "network", "weights"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if isinstance(loaded, dict) and any(isinstance(v, dict) for v in loaded.values()):
        keys = ", ".join(repr(k) for k, v in loaded.items() if isinstance(v, dict))
        raise QuantbenchError(f"{path} holds dictionaries under {keys}; save the state dict of the model alone")
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise QuantbenchError(f"{path} holds no state dict")
    return {_bare(str(k)): v for k, v in loaded.items()}


def _bare(key: str) -> str:
    """A parameter's name without what DDP (module.) and torch.compile (_orig_mod.) put before it, in any order."""
    while (bare := key.removeprefix("module.").removeprefix("_orig_mod.")) != key:
        key = bare
    return key


def _load_state(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise QuantbenchError(f"{path} does not fit the architecture: {lines[min(1, len(lines) - 1)][:160]}") from error
