"""Plugins that suppress boxes at the end of a detector: what they read, and how they choose, as plain data.

EfficientNMS_TRT and its kin (EfficientIdxNMS_TRT, EfficientNMSX_TRT, YOLO_NMS_TRT), BatchedNMS_TRT,
BatchedNMSDynamic_TRT and MMDeploy's TRTBatchedNMS say the same things by names of their own. Sources: NVIDIA/TensorRT,
plugin/efficientNMSPlugin and plugin/batchedNMSPlugin (README; efficientNMSInference.cuh for the box decoder).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE

# What each attribute is called, in lower case and without underscores.
_ALIASES = {
    "score": ("scorethreshold",),
    "iou": ("iouthreshold",),
    "most": ("maxoutputboxes", "keeptopk"),
    "candidates": ("topk",),
    "background": ("backgroundclass", "backgroundlabelid"),
    "sigmoid": ("scoreactivation",),
    "agnostic": ("classagnostic",),
    "centre": ("boxcoding", "centerpointbox"),
}
_MOST, _CANDIDATES = 100, 4096


@dataclass(frozen=True, slots=True)
class Suppression:
    """A plugin called `plugin` that reads tensors `boxes` [N, A, 4] or [N, A, C, 4] and `scores` [N, A, C].

    Boxes with a score over `score` (with `sigmoid` that of the logit) count, but those of class `background` (-1:
    none); the surest `candidates` are looked at (`each`: of every class), those with an IoU over `iou` with a surer one
    of their class (`agnostic`: of any) go, and the surest `most` are left. `centre`: boxes are centre and size, else
    two corners. `anchors` [1 or N, A, 4], in the same coding, where boxes are offsets from them.
    """

    plugin: str
    op: str
    boxes: str
    scores: str
    iou: float
    score: float
    most: int = _MOST
    candidates: int = _CANDIDATES
    each: bool = False
    background: int = -1
    sigmoid: bool = False
    agnostic: bool = False
    centre: bool = False
    anchors: NDArray[np.float32] | None = field(default=None, compare=False)

    @property
    def words(self) -> str:
        """The plugin and its thresholds."""
        return f"plugin {self.plugin} ({self.op}: IoU {self.iou:g}, score {self.score:g}, {self.most} boxes)"


def suppression(model: onnx.ModelProto, node: onnx.NodeProto) -> Suppression | None:
    """What the plugin `node` of `model` does; None where it suppresses no boxes, or does so in a way unknown here.

    Tensors are named as they were before Q and DQ, where these stand before the plugin.
    """
    op = node.op_type.rpartition("::")[2]
    if "nms" not in op.lower() or "rotated" in op.lower() or len(node.input) < 2:
        return None
    found = _attributes(node)
    if "score" not in found or "iou" not in found:
        return None
    makers = {made.output[0]: made for made in model.graph.node if made.op_type in (QUANTIZE, DEQUANTIZE)}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    boxes, scores = (_root(name, makers) for name in node.input[:2])
    anchors = None
    if len(node.input) > 2 and node.input[2] and "pose" not in op.lower():
        if node.input[2] not in stored:
            return None
        anchors = numpy_helper.to_array(stored[node.input[2]]).astype(np.float32)
    return Suppression(
        node.name, op, boxes, scores, round(float(found["iou"]), 6), round(float(found["score"]), 6),
        most=int(found.get("most", _MOST)),
        candidates=int(found["candidates"]) if int(found.get("candidates", -1)) > 0 else _CANDIDATES,
        each="candidates" in found,
        background=int(found.get("background", -1)),
        sigmoid=bool(found.get("sigmoid", 0)),
        agnostic=bool(found.get("agnostic", 0)),
        centre=bool(found.get("centre", 0)),
        anchors=anchors,
    )  # fmt: skip


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    given = {entry.name.replace("_", "").lower(): helper.get_attribute_value(entry) for entry in node.attribute}
    found = {}
    for key, names in _ALIASES.items():
        value = next((given[name] for name in names if name in given), None)
        if value is not None:
            # Exporters write flags as numbers, lists of one, or text.
            value = value[0] if isinstance(value, list | tuple) else value
            value = value.decode() if isinstance(value, bytes) else value
            found[key] = float(value) if isinstance(value, str) else value
    return found


def _root(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    while name in makers:
        name = makers[name].input[0]
    return name
