"""torchvision where its compiled operators do not load (its wheels want CUDA libraries; CPU torch has none).

Importing torchvision then fails although models and transforms need none of these operators, and ultralytics needs
one: non-maximum suppression. This registers that operator in plain torch before the import.
"""

import importlib
import sys
from types import ModuleType

import torch
from torch import Tensor

from quantbench.errors import QuantbenchError

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> ModuleType:
    """torchvision, with `nms` in plain torch where the compiled one does not load.

    Raises QuantbenchError where torchvision is not installed.
    """
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        raise QuantbenchError(
            f"{error.name or 'torchvision'} is not installed; pip install torchvision (--no-deps)"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", _SCHEMA)
    torch.library.impl("torchvision::nms", "cpu", nms)
    module = importlib.import_module("torchvision")
    # torchvision.ops.nms asks whether the compiled operators are there; the one it calls now is.
    boxes = importlib.import_module("torchvision.ops.boxes")
    setattr(boxes, "_assert_has_ops", _always)  # noqa: B010 - a private name, set on purpose
    return module


def _always() -> None:
    return None


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices (int64) of the boxes kept by greedy non-maximum suppression, in order of falling score.

    `dets` float [n, 4] as x0, y0, x1, y1; a box goes when its IoU with a kept one is above `iou_threshold`.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes = dets[order]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    left = torch.arange(len(boxes))
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        low = torch.maximum(boxes[first, :2], boxes[left, :2])
        high = torch.minimum(boxes[first, 2:], boxes[left, 2:])
        shared = (high - low).clamp_(min=0).prod(1)
        left = left[shared / (area[first] + area[left] - shared) <= iou_threshold]
    return order[torch.tensor(kept, dtype=torch.int64)]
