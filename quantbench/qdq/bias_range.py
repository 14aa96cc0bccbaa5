"""Raise weight scales under which a bias would not fit the INT32 that onnxruntime stores it in.

onnxruntime writes the bias of a quantized layer as round(bias / (s_x s_w)) in INT32 (onnxruntime,
core/optimizer/qdq_transformer/weight_bias_quantization.cc and ensure_unique_dq…), and so does every integer runtime. A
channel of tiny weights, such as batch norm folded into a dead channel leaves, has an s_w so small that this saturates,
and the channel loses its bias. Its weights add next to nothing to that bias, so their scale may as well be larger;
other runtimes hardly notice. onnxruntime's own quantizer does the same (quantization/onnx_quantizer.py,
`adjust_weight_scale_for_int32_bias`).
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantbench.graph.ops import BIASED
from quantbench.graph.surgery import edited

# Half of INT32's range, so that the products are sure of their place too, and bias correction of its.
LARGEST_BIAS = 2.0**30


def smallest_scales(bias: NDArray[np.generic], activation_scale: float) -> NDArray[np.float32]:
    """Smallest weight scale, per channel as `bias` has them, under which |bias| / (s_x s_w) is at most 2^30."""
    limit = np.abs(np.asarray(bias, np.float64)) / (activation_scale * LARGEST_BIAS)
    # The next larger float32: rounding must not undo it.
    return np.nextafter(limit.astype(np.float32), np.float32(np.inf))


def raise_weight_scales(graph: gs.Graph) -> int:
    """Raise them in place in a Q/DQ graph; returns the number of weights changed.

    Weights stored as INT8 behind a DQ alone are stored anew under the new scale. What is no constant is left alone.
    """
    wanted: dict[int, tuple[gs.Node, NDArray[np.float32]]] = {}
    for node in graph.nodes:
        if node.op not in BIASED or len(node.inputs) < 3 or not isinstance(node.inputs[2], gs.Constant):
            continue
        activation, weight = (_dequantize(node.inputs[i]) for i in (0, 1))
        if activation is None or weight is None or np.ndim(activation.inputs[1].values):
            continue
        least = _least(node, weight, float(activation.inputs[1].values))
        if least is not None:
            key = id(weight)
            known = wanted.get(key)
            wanted[key] = (weight, np.maximum(known[1], least) if known else least)
    changed = 0
    for dequantize, least in wanted.values():
        old = np.asarray(dequantize.inputs[1].values)
        if np.any(old.astype(np.float32) < least):
            _rescale(dequantize, np.maximum(old.astype(np.float32), least).astype(old.dtype))
            changed += 1
    return changed


def with_raised_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself where every bias fits, else a copy with raised weight scales."""
    changed = 0

    def change(graph: gs.Graph) -> None:
        nonlocal changed
        changed = raise_weight_scales(graph)

    raised = edited(model, change)
    return raised if changed else model


def _dequantize(tensor: gs.Tensor) -> gs.Node | None:
    """The DQ with a constant scale that makes `tensor`."""
    node = tensor.inputs[0] if tensor.inputs else None
    known = node is not None and node.op == "DequantizeLinear" and isinstance(node.inputs[1], gs.Constant)
    return node if known else None


def _least(node: gs.Node, weight: gs.Node, activation_scale: float) -> NDArray[np.float32] | None:
    """Smallest scales of the weight behind `weight`, in the shape of its scale; None where they cannot be told."""
    scale = np.asarray(weight.inputs[1].values)
    bias = np.asarray(node.inputs[2].values)
    if not activation_scale > 0 or scale.ndim > 1 or bias.ndim > 1:
        return None
    least = smallest_scales(bias * node.attrs.get("beta", 1.0) if node.op == "Gemm" else bias, activation_scale)
    if scale.ndim == 0 or scale.size == 1:
        return np.full(scale.shape, least.max(initial=0), np.float32)
    if scale.size == least.size:
        return least
    # A ConvTranspose of several groups: [C, K/g, ...], a scale serves that channel of every group.
    groups = least.size // scale.size
    return least.reshape(groups, scale.size).max(axis=0) if groups * scale.size == least.size else None


def _rescale(dequantize: gs.Node, scale: NDArray[np.generic]) -> None:
    old = dequantize.inputs[1]
    constant = gs.Constant(f"{old.name}_raised", scale)
    source = dequantize.inputs[0]
    quantize = source.inputs[0] if source.inputs else None
    if quantize is not None:
        quantize.inputs[1] = constant
        for reader in source.outputs:
            reader.inputs[1] = constant
    elif isinstance(source, gs.Constant):
        axis = int(dequantize.attrs.get("axis", 1))
        values = np.asarray(source.values)
        shape = [1] * values.ndim
        if scale.ndim:
            shape[axis] = -1
        ratio = (np.asarray(old.values, np.float64) / scale.astype(np.float64)).reshape(shape)
        stored = np.rint(values.astype(np.float64) * ratio).astype(values.dtype)
        dequantize.inputs[0] = gs.Constant(f"{source.name}_raised", stored)
        dequantize.inputs[1] = constant
