"""YOLOv8 and its family: the model out of an ultralytics checkpoint, its head, and how ultralytics exports it."""

from typing import Any

import torch
from torch import Tensor, nn

from quantbench.errors import QuantbenchError
from quantbench.evaluate.task import Task

# Heads whose last layers decode boxes, masks or keypoints; a Classify head is an ordinary linear layer.
_FLOAT_HEADS = (
    "Detect", "Segment", "Pose", "OBB", "WorldDetect", "v10Detect", "YOLOEDetect", "YOLOESegment", "RTDETRDecoder",
)  # fmt: skip
STRIDE = 32


def is_yolo(loaded: Any) -> bool:
    """Whether `loaded` is an ultralytics checkpoint (a dict with a model or an EMA) or one of its models."""
    return _is_model(_stored_model(loaded))


def yolo_model(loaded: Any) -> nn.Module:
    """The model of an ultralytics checkpoint, float32, in evaluation mode: the EMA where there is one.

    Half precision, fused batch norms and every size and head of the family come out alike.
    Raises QuantbenchError where there is none.
    """
    model = _stored_model(loaded)
    if not _is_model(model):
        raise QuantbenchError("the checkpoint holds no ultralytics model")
    assert isinstance(model, nn.Module)
    model = model.float().eval()
    for module in model.modules():
        if isinstance(module, nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None  # checkpoints of torch before 1.11
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def _stored_model(loaded: Any) -> Any:
    if isinstance(loaded, dict):
        return loaded.get("ema") if loaded.get("ema") is not None else loaded.get("model")
    return loaded


def _is_model(value: Any) -> bool:
    return (
        isinstance(value, nn.Module) and hasattr(value, "yaml") and isinstance(getattr(value, "model", None), nn.Module)
    )


def head(model: nn.Module) -> nn.Module:
    """The last module of the model's chain: Detect, Segment, Classify …"""
    chain = model.model
    assert isinstance(chain, nn.Sequential)
    return chain[-1]


def task(model: nn.Module) -> str:
    """detect, segment, pose, obb or classify."""
    name = type(head(model)).__name__
    return {"Segment": "segment", "Pose": "pose", "OBB": "obb", "Classify": "classify"}.get(name, "detect")


def boxes(model: nn.Module) -> Task | None:
    """How the first exported output holds boxes; None for a classifier and for what has suppression in the graph."""
    last, names = head(model), getattr(model, "names", None) or {}
    if task(model) == "classify" or getattr(last, "end2end", False) or not names:
        return None
    points = tuple(int(n) for n in getattr(last, "kpt_shape", (0, 0))) if task(model) == "pose" else (0, 0)
    return Task("boxes", "yolo", (0,), len(names), (points[0], points[1]), task(model) == "obb", "the checkpoint")


def float_modules(model: nn.Module) -> tuple[str, ...]:
    """Modules that stay float as a whole: the head that decodes boxes, with its DFL."""
    chain = model.model
    assert isinstance(chain, nn.Sequential)
    if type(chain[-1]).__name__ not in _FLOAT_HEADS:
        return ()
    return (f"model.{len(chain) - 1}",)


def output_names(model: nn.Module) -> tuple[str, ...]:
    """Names that ultralytics' own export gives the outputs."""
    return ("output0", "output1") if task(model) == "segment" else ("output0",)


class exporting:
    """While it lasts, the head returns what ultralytics exports: decoded boxes alone, no training outputs.

    With `dynamic` it never compares its input's shape with the last one, which would fix the batch size.
    """

    def __init__(self, model: nn.Module, *, dynamic: bool = False) -> None:
        self.head = head(model)
        self.dynamic = dynamic
        self.saved: dict[str, Any] = {}

    def __enter__(self) -> None:
        wanted = {"export": True, "format": "onnx", "dynamic": self.dynamic}
        self.saved = {name: self.head.__dict__.get(name) for name in wanted}
        self.head.__dict__.update(wanted)

    def __exit__(self, *error: object) -> None:
        for name, value in self.saved.items():
            if value is None:
                self.head.__dict__.pop(name, None)
            else:
                self.head.__dict__[name] = value


def example_input(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """A seeded batch of one image, float32 [1, 3, height, width] in 0..1. Raises QuantbenchError for an odd size."""
    if any(side % STRIDE for side in size) and task(model) != "classify":
        raise QuantbenchError(f"image size {size[0]},{size[1]} is no multiple of {STRIDE}, the stride of YOLO")
    channels = int(getattr(model, "yaml", {}).get("channels", 3) or 3)
    return torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0))
