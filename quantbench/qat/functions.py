"""Which torch function is which ONNX operator, and which of them can carry a quantizer: one table for the tracer
and for the run-time router, so that both count the same calls."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Function to kind, for calls whose inputs may be quantized. Calls are numbered per kind within their module.
SITE_KINDS: Mapping[Any, str] = {
    torch.add: "add", Tensor.add: "add", Tensor.add_: "add", Tensor.__add__: "add", Tensor.__iadd__: "add",
    Tensor.__radd__: "add",
    torch.cat: "cat", torch.concat: "cat", torch.concatenate: "cat",
    torch.matmul: "matmul", Tensor.matmul: "matmul", Tensor.__matmul__: "matmul", torch.bmm: "matmul",
    Tensor.bmm: "matmul",
    F.avg_pool2d: "avgpool", F.adaptive_avg_pool2d: "avgpool", torch.mean: "mean", Tensor.mean: "mean",
    torch.conv1d: "conv", torch.conv2d: "conv", torch.conv3d: "conv",
    torch.conv_transpose1d: "deconv", torch.conv_transpose2d: "deconv", torch.conv_transpose3d: "deconv",
    F.linear: "linear", F.pad: "pad",
}  # fmt: skip

# Kind to ONNX operator, where there is one answer.
KIND_OPS: Mapping[str, str] = {"add": "Add", "cat": "Concat", "matmul": "MatMul", "conv": "Conv",
                               "deconv": "ConvTranspose", "mean": "ReduceMean", "pad": "Pad"}  # fmt: skip

# Functions that change nothing in evaluation mode: their result is the same tensor to the rules.
IDENTITIES = frozenset({
    Tensor.contiguous, Tensor.to, Tensor.float, Tensor.detach, Tensor.clone, torch.clone, Tensor.type_as, F.dropout,
    F.dropout2d, Tensor.cpu, Tensor.requires_grad_, Tensor.type, Tensor.half,
})  # fmt: skip

# Everything else that the rules or a reader of the plan may meet, by ONNX name.
OPS: Mapping[Any, str] = {
    torch.relu: "Relu", torch.relu_: "Relu", F.relu: "Relu", Tensor.relu: "Relu", Tensor.relu_: "Relu",
    F.relu6: "Clip", F.hardtanh: "Clip", torch.clamp: "Clip", Tensor.clamp: "Clip", Tensor.clamp_: "Clip",
    torch.sigmoid: "Sigmoid", Tensor.sigmoid: "Sigmoid", Tensor.sigmoid_: "Sigmoid", F.sigmoid: "Sigmoid",
    F.hardswish: "HardSwish", F.hardsigmoid: "HardSigmoid", F.leaky_relu: "LeakyRelu", F.elu: "Elu", F.gelu: "Gelu",
    F.softmax: "Softmax", torch.softmax: "Softmax", Tensor.softmax: "Softmax", torch.tanh: "Tanh",
    F.max_pool2d: "MaxPool", torch.max_pool2d: "MaxPool", F.max_pool1d: "MaxPool", F.interpolate: "Resize",
    torch.flatten: "Flatten", Tensor.flatten: "Flatten", Tensor.view: "Reshape", Tensor.reshape: "Reshape",
    torch.reshape: "Reshape", Tensor.permute: "Transpose", torch.permute: "Transpose", Tensor.transpose: "Transpose",
    torch.transpose: "Transpose", Tensor.squeeze: "Squeeze", Tensor.unsqueeze: "Unsqueeze",
    torch.squeeze: "Squeeze", torch.unsqueeze: "Unsqueeze", Tensor.expand: "Expand", Tensor.__getitem__: "Slice",
    torch.split: "Split", Tensor.split: "Split", torch.chunk: "Split", Tensor.chunk: "Split",
    torch.split_with_sizes: "Split",
    torch.mul: "Mul", Tensor.mul: "Mul", Tensor.mul_: "Mul", Tensor.__mul__: "Mul", Tensor.__rmul__: "Mul",
    Tensor.__imul__: "Mul",
    torch.sub: "Sub", Tensor.sub: "Sub", Tensor.__sub__: "Sub", Tensor.__rsub__: "Sub",
    torch.div: "Div", Tensor.div: "Div", Tensor.__truediv__: "Div",
    torch.log: "Log", Tensor.log: "Log", torch.log2: "Log", Tensor.log2: "Log", torch.log10: "Log", Tensor.log10: "Log",
    torch.log1p: "Log", Tensor.log1p: "Log", torch.exp: "Exp", Tensor.exp: "Exp", F.softplus: "Softplus",
    torch.sqrt: "Sqrt", Tensor.sqrt: "Sqrt", torch.pow: "Pow", Tensor.pow: "Pow", Tensor.__pow__: "Pow",
    torch.square: "Pow", Tensor.square: "Pow", torch.abs: "Abs", Tensor.abs: "Abs", torch.neg: "Neg",
    Tensor.__neg__: "Neg", torch.clamp_min: "Clip", Tensor.clamp_min: "Clip", torch.maximum: "Max",
    torch.where: "Where", torch.sum: "ReduceSum", Tensor.sum: "ReduceSum", Tensor.norm: "ReduceL2",
    torch.norm: "ReduceL2", torch.linalg.norm: "ReduceL2", torch.linalg.vector_norm: "ReduceL2", torch.stack: "Concat",
    F.batch_norm: "BatchNormalization", F.layer_norm: "LayerNormalization", F.pixel_shuffle: "DepthToSpace",
}  # fmt: skip

# SiLU has no operator of its own before opset 24: both exporters write x * Sigmoid(x).
SILU = frozenset({F.silu, torch.nn.functional.silu})


def tensor_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """Arguments of a call in ONNX input order: positional ones, then the tensors given by name; lists are opened."""
    found: list[Any] = []
    for value in (*args, *(kwargs[k] for k in _BY_NAME if k in kwargs)):
        found += list(value) if isinstance(value, (list, tuple)) and _has_tensor(value) else [value]
    return found


def replace_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], new: Mapping[int, Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's arguments with those at the positions of `tensor_arguments` in `new` replaced."""
    position = 0

    def take(value: Any) -> Any:
        nonlocal position
        if isinstance(value, (list, tuple)) and _has_tensor(value):
            taken = [new.get(position + i, item) for i, item in enumerate(value)]
            position += len(value)
            return type(value)(taken)
        taken_one = new.get(position, value)
        position += 1
        return taken_one

    replaced = tuple(take(value) for value in args)
    named = {key: take(kwargs[key]) for key in _BY_NAME if key in kwargs}
    return replaced, {**kwargs, **named}


_BY_NAME = ("input", "tensors", "other", "mat2", "weight", "bias")


def _has_tensor(value: Any) -> bool:
    return any(isinstance(item, Tensor) for item in value)
