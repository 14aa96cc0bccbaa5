"""For onnxruntime: activations that cannot get far below zero have all 256 levels for what they can be.

Symmetric INT8, which TensorRT wants, leaves half of its levels to values that a ReLU's output never takes, and a
SiLU's hardly. The kernels of onnxruntime take any zero point. Behind a ReLU it is 0: the steps are half as wide, and
saturating is the ReLU itself, so that conv or Add and Q are one integer kernel (`integer_activation.py` takes the ReLU
out). Elsewhere the lower end is what operators tell (`bounds.py`) and calibration saw (`lowest.py`). The numbers are
others than those of the symmetric model, so this is for `--for-onnxruntime` alone.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantbench.calibration.layout import SYMMETRIC_TOP, Layout
from quantbench.graph.ops import JOINS_AND_MOVES
from quantbench.graph.surgery import edited
from quantbench.qdq.bounds import Bounds, floor
from quantbench.qdq.lowest import lowest_noted


def affine_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of the Q/DQ `model` in which each symmetric INT8 pair on a tensor with a lower end above that of its range
    is UINT8 with a zero point for it and the same upper end. Joins and moves have one on all sides."""
    seen = lowest_noted(model)

    def change(graph: gs.Graph) -> None:
        for node, low in _lower_ends(graph, seen):
            _widen(node, low)

    return edited(model, change)


def layouts_of(model: onnx.ModelProto) -> dict[str, Layout]:
    """How `affine_activations` would lay out the integers of each tensor with a symmetric pair in the Q/DQ `model`,
    whatever the upper end of its range."""
    graph = gs.import_onnx(model)
    return {node.inputs[0].name: Layout(low) for node, low in _lower_ends(graph, lowest_noted(model))}


def _lower_ends(graph: gs.Graph, seen: Mapping[str, float]) -> Iterator[tuple[gs.Node, float]]:
    """Each Q of a symmetric pair with the lower end, at most zero, of the range that its group needs."""
    bounds = Bounds()
    quantizers = [node for node in graph.nodes if _is_symmetric(node)]
    lows = {}
    for node in quantizers:
        x = node.inputs[0]
        lows[id(node)] = max(bounds.lowest(x), seen.get(x.name, -math.inf))
    for members in _groups(quantizers, lows):
        low = min(lows[id(node)] for node in members)
        if len(members) == 1:
            low = max(low, floor(members[0].outputs[0]))
        for node in members:
            yield node, min(low, 0.0)


def _widen(node: gs.Node, low: float) -> None:
    """Give `node` and its DQ the range from `low` to where it ends."""
    scale = np.asarray(node.inputs[1].values)
    high = np.asarray(float(scale.reshape(-1)[0]) * SYMMETRIC_TOP)
    if not -low < high:
        return
    layout = Layout(low)
    name = node.outputs[0].name
    step, level = layout.steps(high), layout.zero_points(high)
    wide = gs.Constant(f"{name}_affine_scale", np.asarray(step, scale.dtype).reshape(scale.shape))
    zero = gs.Constant(f"{name}_affine_zero_point", np.asarray(level, np.uint8).reshape(scale.shape))
    node.inputs[1], node.inputs[2] = wide, zero
    node.outputs[0].dtype = np.uint8
    for reader in node.outputs[0].outputs:
        if reader.op == "DequantizeLinear":
            reader.inputs[1], reader.inputs[2] = wide, zero


def _groups(quantizers: list[gs.Node], lows: Mapping[int, float]) -> list[list[gs.Node]]:
    """`quantizers`, those together between which values only move or join, under one scale. What joins others from a
    ReLU has zero point 0 for itself, which is the ReLU, and the join has it in its own levels."""
    group = {id(node): [node] for node in quantizers}
    for node in quantizers:
        for other in _before(node):
            if id(other) not in group or group[id(other)] is group[id(node)]:
                continue
            if lows[id(other)] >= 0 > lows[id(node)]:
                continue
            if np.array_equal(other.inputs[1].values, node.inputs[1].values):
                merged = [*group[id(node)], *group[id(other)]]
                group.update((id(member), merged) for member in merged)
    return list({id(members): members for members in group.values()}.values())


def _before(node: gs.Node) -> Iterator[gs.Node]:
    """The Qs whose values the Q `node` gets moved or joined."""
    made = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    if made is None or made.op not in JOINS_AND_MOVES:
        return
    for given in made.inputs:
        dequantize = given.inputs[0] if given.inputs else None
        if dequantize is not None and dequantize.op == "DequantizeLinear" and dequantize.inputs[0].inputs:
            yield dequantize.inputs[0].inputs[0]


def _is_symmetric(node: gs.Node) -> bool:
    """Whether it quantizes an activation to INT8 by one constant scale, zero point 0."""
    if node.op != "QuantizeLinear" or isinstance(node.inputs[0], gs.Constant) or len(node.inputs) < 3:
        return False
    scale, zero = node.inputs[1:3]
    if not isinstance(scale, gs.Constant) or not isinstance(zero, gs.Constant):
        return False
    finite = math.isfinite(float(np.max(scale.values)))
    return finite and np.size(scale.values) == 1 and zero.values.dtype == np.int8 and not np.any(zero.values)
