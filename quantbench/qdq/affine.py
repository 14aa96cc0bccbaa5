"""For onnxruntime: activations that are never negative get all 256 levels, and their ReLU goes into the quantization.

Symmetric INT8, which TensorRT wants, leaves half of its levels to values that a ReLU's output never takes. The kernels
of onnxruntime take any zero point: with U8, zero point 0 and the scale amax / 255 the steps are half as wide, and
saturating at zero is the ReLU itself, so that conv or Add and Q are one integer kernel (`integer_activation.py` takes
the ReLU out). The numbers are others than those of the symmetric model, so this is for `--for-onnxruntime` alone.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantbench.graph.surgery import edited

_SYMMETRIC, _UNSIGNED = 127, 255
_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax"})
# Nothing negative comes out where nothing negative went in: at input 0, or at any.
_OF_FIRST = frozenset({
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Reshape", "Flatten", "Transpose", "Identity",
    "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "QuantizeLinear", "DequantizeLinear",
})  # fmt: skip
_OF_ALL = frozenset({"Concat", "Add", "Mul", "Max"})


def affine_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of the Q/DQ `model` in which each symmetric INT8 pair on a tensor that is never negative is UINT8 with zero
    point 0 and the same upper end of its range."""
    return edited(model, _reencode)


def _reencode(graph: gs.Graph) -> None:
    known: dict[str, bool] = {}
    for node in graph.nodes:
        if node.op != "QuantizeLinear" or not _is_symmetric(node) or not never_negative(node.inputs[0], known):
            continue
        name, scale = node.outputs[0].name, np.asarray(node.inputs[1].values)
        wide = gs.Constant(f"{name}_affine_scale", np.asarray(scale * (_SYMMETRIC / _UNSIGNED), scale.dtype))
        zero = gs.Constant(f"{name}_affine_zero_point", np.asarray(0, np.uint8))
        node.inputs[1], node.inputs[2] = wide, zero
        node.outputs[0].dtype = np.uint8
        for reader in node.outputs[0].outputs:
            if reader.op == "DequantizeLinear":
                reader.inputs[1], reader.inputs[2] = wide, zero


def never_negative(tensor: gs.Tensor, known: dict[str, bool]) -> bool:
    """Whether `tensor` can be told to hold nothing below zero; `known` remembers."""
    if tensor.name not in known:
        known[tensor.name] = False  # until told otherwise
        known[tensor.name] = _tell(tensor, known)
    return known[tensor.name]


def _tell(tensor: gs.Tensor, known: dict[str, bool]) -> bool:
    if isinstance(tensor, gs.Constant):
        return bool(np.all(np.asarray(tensor.values) >= 0))
    if not tensor.inputs:
        return False
    node = tensor.inputs[0]
    if node.op in _NEVER_NEGATIVE:
        return True
    if node.op == "Clip":
        low = node.inputs[1] if len(node.inputs) > 1 else None
        at_zero = isinstance(low, gs.Constant) and float(np.asarray(low.values).reshape(-1)[0]) >= 0
        return at_zero or never_negative(node.inputs[0], known)
    if node.op in _OF_FIRST:
        return never_negative(node.inputs[0], known)
    return node.op in _OF_ALL and all(never_negative(given, known) for given in node.inputs)


def _is_symmetric(node: gs.Node) -> bool:
    """Whether it quantizes an activation to INT8 by one constant scale, zero point 0."""
    if isinstance(node.inputs[0], gs.Constant) or len(node.inputs) < 3:
        return False
    scale, zero = node.inputs[1:3]
    if not isinstance(scale, gs.Constant) or not isinstance(zero, gs.Constant):
        return False
    return np.size(scale.values) == 1 and zero.values.dtype == np.int8 and not np.any(zero.values)
