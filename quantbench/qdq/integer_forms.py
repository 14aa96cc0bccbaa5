"""For onnxruntime: operators that have no integer kernel as sums and products that have one.

- HardSigmoid between DQ and Q is clip(x + beta / alpha, 0, 1 / alpha) times alpha: an Add of a constant, whose Q with
  zero point 0 and the scale 1 / alpha / 255 clips, and a DQ whose scale has the alpha. HardSwish is x times that.
- A constant that is added to integers is an integer with a scale of its own, which holds it exactly.
- A mean over all positions of an image is a global average pooling, and a Reshape where they are gone behind it.
- Zeros that pad an image before a conv are its own; before anything else they are the zero point.
- Multiplying or dividing by one positive value, and Q behind it: the Q alone, by a scale that has the value.

Only what runs on integers already is written so; the numbers are those of the range [0, 1] in 255 steps.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantbench.graph.onnx_view import view_of
from quantbench.graph.surgery import edited
from quantbench.qdq.integer_layers import gelu, integer_bias, linear, made_by, one_value, only_reader

_LEVELS = 255
_SWISH_ALPHA, _SWISH_BETA = 1 / 6, 0.5


def integer_forms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of the Q/DQ `model` with these operators between DQ and Q in other words."""
    wanted = any(node.op_type in ("ReduceMean", "MatMul") for node in model.graph.node)
    known = view_of(model).tensors if wanted else {}
    ranks = {name: len(tensor.shape) for name, tensor in known.items() if tensor.shape is not None}
    return edited(model, lambda graph: _rewrite(graph, ranks))


def _rewrite(graph: gs.Graph, ranks: Mapping[str, int]) -> None:
    for node in list(graph.nodes):
        if node.op == "HardSwish" and _is_between(node):
            _hard_swish(graph, node)
        elif node.op == "HardSigmoid" and _is_between(node) and float(node.attrs.get("beta", 0.5)) > 0:
            _hard_sigmoid(graph, node)
        elif node.op == "ReduceMean" and _is_between(node) and ranks.get(node.inputs[0].name) == 4:
            _global_average(graph, node)
        elif node.op == "MatMul" and ranks.get(node.inputs[0].name) == 2:
            linear(graph, node)
        elif node.op == "Erf":
            gelu(graph, node)
    for node in list(graph.nodes):
        if node.op == "Pad":
            _pad(graph, node)
    for node in list(graph.nodes):
        if node.op == "QuantizeLinear":
            _take_scale_in(node)
    for node in list(graph.nodes):
        if node.op == "Gemm":
            integer_bias(graph, node)
        elif node.op == "Add" and any(made_by(given, "DequantizeLinear") for given in node.inputs):
            _constant_as_integer(graph, node)


def _is_between(node: gs.Node) -> bool:
    """Whether `node` reads a DQ of an activation, and only a Q with a zero point reads it."""
    output = node.outputs[0]
    only = len(output.outputs) == 1 and output.outputs[0].op == "QuantizeLinear" and len(output.outputs[0].inputs) == 3
    return only and made_by(node.inputs[0], "DequantizeLinear")


def _hard_swish(graph: gs.Graph, node: gs.Node) -> None:
    x, output = node.inputs[0], node.outputs[0]
    stem = node.name
    shifted, gate = (gs.Variable(f"{stem}_{what}", dtype=output.dtype, shape=x.shape) for what in ("shifted", "gate"))
    quantized = gs.Variable(f"{stem}_gate_quantized", dtype=np.uint8, shape=x.shape)
    three = _constant(f"{stem}_shift", _SWISH_BETA / _SWISH_ALPHA, output)
    zero = gs.Constant(f"{stem}_gate_zero_point", np.asarray(0, np.uint8))
    scales = [_constant(f"{stem}_gate_{name}", scale, output)
              for name, scale in (("wide", 1 / _SWISH_ALPHA / _LEVELS), ("scale", 1 / _LEVELS))]  # fmt: skip
    node.outputs.clear()
    graph.nodes += [
        gs.Node("Add", f"{stem}_shift", {}, [x, three], [shifted]),
        gs.Node("QuantizeLinear", f"{stem}_clip", {}, [shifted, scales[0], zero], [quantized]),
        gs.Node("DequantizeLinear", f"{stem}_alpha", {}, [quantized, scales[1], zero], [gate]),
        gs.Node("Mul", stem, {}, [x, gate], [output]),
    ]


def _hard_sigmoid(graph: gs.Graph, node: gs.Node) -> None:
    x, output = node.inputs[0], node.outputs[0]
    alpha, beta = float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5))
    quantize = output.outputs[0]
    zero = gs.Constant(f"{node.name}_zero_point", np.asarray(0, np.uint8))
    quantize.inputs[1] = _constant(f"{node.name}_wide", 1 / alpha / _LEVELS, output)
    scale = _constant(f"{node.name}_scale", 1 / _LEVELS, output)
    quantize.inputs[2] = zero
    quantize.outputs[0].dtype = np.uint8
    for reader in quantize.outputs[0].outputs:
        reader.inputs[1], reader.inputs[2] = scale, zero
    node.outputs.clear()
    shift = _constant(f"{node.name}_shift", beta / alpha, output)
    graph.nodes.append(gs.Node("Add", node.name, {}, [x, shift], [output]))


def _global_average(graph: gs.Graph, node: gs.Node) -> None:
    given = node.attrs.get("axes")
    if given is None and len(node.inputs) > 1 and isinstance(node.inputs[1], gs.Constant):
        given = np.asarray(node.inputs[1].values).reshape(-1)
    x, output = node.inputs[0], node.outputs[0]
    if given is None or sorted(int(axis) % 4 for axis in given) != [2, 3]:
        return
    node.outputs.clear()
    if node.attrs.get("keepdims", 1):
        graph.nodes.append(gs.Node("GlobalAveragePool", node.name, {}, [x], [output]))
        return
    # The Q between the two, so that both run on integers: the Q that there is, in front of the Reshape.
    quantize = output.outputs[0]
    result = quantize.outputs[0]
    pooled = gs.Variable(f"{node.name}_pooled", dtype=output.dtype)
    levels = gs.Variable(f"{node.name}_levels", dtype=result.dtype)
    shape = gs.Constant(f"{node.name}_shape", np.asarray([0, -1], np.int64))
    quantize.inputs[0], quantize.outputs[0] = pooled, levels
    graph.nodes += [
        gs.Node("GlobalAveragePool", node.name, {}, [x], [pooled]),
        gs.Node("Reshape", f"{node.name}_flat", {}, [levels, shape], [result]),
    ]


def _pad(graph: gs.Graph, node: gs.Node) -> None:
    """Zeros around integers between a DQ and a Q of one scale and zero point."""
    quantize = only_reader(node.outputs[0])
    if quantize is None or quantize.op != "QuantizeLinear" or not made_by(node.inputs[0], "DequantizeLinear"):
        return
    dequantize = node.inputs[0].inputs[0]
    values = [_constants(made) for made in (dequantize, quantize)]
    value = one_value(node.inputs[2]) if len(node.inputs) > 2 and not node.inputs[2].is_empty() else 0.0
    if len(node.inputs) > 3 or value != 0.0 or not isinstance(node.inputs[1], gs.Constant):
        return
    if len(values[0]) != 2 or len(values[1]) != 2 or not all(map(np.array_equal, *values)):
        return
    pads = [int(size) for size in np.asarray(node.inputs[1].values).reshape(-1)]
    levels = quantize.outputs[0]
    after = [reader for dq in levels.outputs for reader in dq.outputs[0].outputs]
    if len(after) == 1 and after[0].op == "Conv" and _takes(after[0], pads):
        half = len(pads) // 2
        own = after[0].attrs.get("pads", [0] * (len(pads) - 4))
        more = [*pads[2:half], *pads[half + 2 :]]
        after[0].attrs["pads"] = [a + b for a, b in zip(own, more, strict=True)]
        after[0].inputs[0] = node.inputs[0]
        return
    quantize.outputs.clear()
    graph.nodes.append(gs.Node("Pad", f"{node.name}_integer", {}, [
        dequantize.inputs[0], node.inputs[1], quantize.inputs[2]], [levels]))  # fmt: skip


def _constants(node: gs.Node) -> list[NDArray[np.generic]]:
    """Scale and zero point of a Q or DQ, as far as they are stored."""
    return [np.asarray(given.values) for given in node.inputs[1:3] if isinstance(given, gs.Constant)]


def _takes(conv: gs.Node, pads: list[int]) -> bool:
    """Whether `pads` (of all axes, starts and ends) are ones that `conv` can have."""
    half = len(pads) // 2
    spatial = not any(pads[axis] for axis in (0, 1, half, half + 1))
    return spatial and min(pads) >= 0 and conv.attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")


def _constant(name: str, value: float, like: gs.Tensor) -> gs.Constant:
    return gs.Constant(name, np.asarray(value, like.dtype or np.float32))


def _take_scale_in(quantize: gs.Node) -> None:
    """Q behind x * c or x / c, c one positive value: Q of x by scale / c or scale * c; its DQ stays."""
    node = quantize.inputs[0].inputs[0] if quantize.inputs[0].inputs else None
    scale = quantize.inputs[1]
    if node is None or node.op not in ("Mul", "Div") or len(node.outputs[0].outputs) != 1 or len(node.inputs) != 2:
        return
    by = one_value(node.inputs[1])
    x = node.inputs[0]
    if by is None and node.op == "Mul":
        by, x = one_value(node.inputs[0]), node.inputs[1]
    if by is None or not by > 0 or isinstance(x, gs.Constant) or not isinstance(scale, gs.Constant):
        return
    moved = np.asarray(scale.values * (by if node.op == "Div" else 1 / by))
    quantize.inputs[1] = gs.Constant(f"{quantize.name}_scale", moved.astype(scale.values.dtype))
    quantize.inputs[0] = x
    node.outputs.clear()


def _constant_as_integer(graph: gs.Graph, node: gs.Node) -> None:
    for index, given in enumerate(node.inputs):
        value = one_value(given)
        if value is None or value == 0 or not made_by(node.inputs[1 - index], "DequantizeLinear"):
            continue
        kind = node.inputs[1 - index].inputs[0].inputs[0].dtype
        if kind not in (np.uint8, np.dtype(np.uint8)):
            continue
        level, zero = (_LEVELS, 0) if value > 0 else (0, _LEVELS)
        name = f"{node.name}_constant"
        stored = gs.Constant(f"{name}_levels", np.full(given.values.shape, level, np.uint8))
        parts = [_constant(f"{name}_scale", abs(value) / _LEVELS, given),
                 gs.Constant(f"{name}_zero_point", np.asarray(zero, np.uint8))]  # fmt: skip
        output = gs.Variable(f"{name}_dequantized", dtype=given.dtype, shape=given.values.shape)
        graph.nodes.append(gs.Node("DequantizeLinear", f"{name}_DequantizeLinear", {}, [stored, *parts], [output]))
        node.inputs[index] = output
