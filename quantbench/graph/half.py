"""A model in half precision as its FP32 twin, which the rest works on, and what is needed to write it back as it came.

Calibration, bias correction and evaluation run in onnxruntime on the CPU, where half precision is slow and inexact;
weights in half precision are exact in FP32. So a half model is loaded as its twin, under the same names. A metadata
property says which inputs and outputs were half, and which nodes computed in float32 on purpose; `graph.to_fp16` reads
it when the model is written.
"""

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from quantbench.errors import QuantbenchError
from quantbench.graph.onnx_view import infer_shapes
from quantbench.graph.subgraphs import bodies
from quantbench.text_file import parse_json

PROPERTY = "quantbench.half"
_HALVES: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


@dataclass(frozen=True, slots=True)
class Half:
    """`elem`: FLOAT16 or BFLOAT16. `ends`: inputs and outputs of that type. `floats`: nodes that compute in float32.
    `stored`: nothing computes in half, weights are only kept in it."""

    elem: int
    ends: frozenset[str] = frozenset()
    floats: frozenset[str] = frozenset()
    stored: bool = False


def as_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The FP32 twin of `model` (changed in place), with the property; `model` itself where nothing in it is half.

    Casts between half and float go. Node names must be unique.
    """
    found = _types(model.graph)
    if not found:
        return model
    elem = max(found, key=lambda kind: (found[kind], kind == TensorProto.FLOAT16))
    inferred = infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.output, *inferred.value_info)}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    ends = sorted(v.name for v in (*model.graph.input, *model.graph.output) if types.get(v.name) == elem)
    floats = sorted(node.name for node in model.graph.node if _in_float(node, types))
    stored = not any(_in_half(node, types) for node in model.graph.node)
    _convert(model.graph)
    _drop_casts(model.graph)
    detach(model)
    data = {"type": _HALVES[elem], "ends": ends, "floats": floats, "stored": stored}
    model.metadata_props.add(key=PROPERTY, value=json.dumps(data, separators=(",", ":")))
    return model


def half_of(model: onnx.ModelProto) -> Half | None:
    """What the property of `model` says, None where it has none. Raises QuantbenchError where it is broken."""
    text = next((prop.value for prop in model.metadata_props if prop.key == PROPERTY), None)
    if text is None:
        return None
    try:
        data = parse_json(text, PROPERTY)
        elem = next(kind for kind, name in _HALVES.items() if name == data["type"])
        return Half(elem, frozenset(data["ends"]), frozenset(data["floats"]), bool(data.get("stored")))
    except (QuantbenchError, KeyError, TypeError, StopIteration) as error:
        raise QuantbenchError(
            f"metadata property {PROPERTY} of the model is broken; remove it from the model"
        ) from error


def detach(model: onnx.ModelProto) -> None:
    """Remove the property from `model`, in place: it is then written in FP32."""
    for index in reversed([i for i, prop in enumerate(model.metadata_props) if prop.key == PROPERTY]):
        del model.metadata_props[index]


def _types(graph: onnx.GraphProto) -> Counter[int]:
    """How often each half type is stored or named in `graph` and the bodies in it."""
    found = Counter(t.data_type for t in graph.initializer if t.data_type in _HALVES)
    found.update(v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)
                 if v.type.tensor_type.elem_type in _HALVES)  # fmt: skip
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR and attribute.t.data_type in _HALVES:
                found[attribute.t.data_type] += 1
            elif attribute.name in _TYPE_ATTRIBUTES and attribute.i in _HALVES:
                found[attribute.i] += 1
        for body in bodies(node):
            found.update(_types(body))
    return found


_CONVERT = ("Cast", "QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear")


def _in_half(node: onnx.NodeProto, types: dict[str, int]) -> bool:
    """Whether `node` computes in half precision; what has bodies may."""
    if any(True for _ in bodies(node)):
        return True
    return node.op_type not in _CONVERT and any(types.get(name) in _HALVES for name in node.output if name)


def _in_float(node: onnx.NodeProto, types: dict[str, int]) -> bool:
    """Whether `node` computes in float32: it writes it, or reads it as what it computes on (not as Resize's scales)."""
    if node.op_type in _CONVERT:
        return False
    written = {types.get(name) for name in node.output if name}
    if written & _HALVES.keys():
        return False
    return TensorProto.FLOAT in written or bool(node.input and types.get(node.input[0]) == TensorProto.FLOAT)


def _convert(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _convert_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _HALVES:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _convert_tensor(attribute.t)
            elif attribute.name in _TYPE_ATTRIBUTES and attribute.i in _HALVES:
                attribute.i = TensorProto.FLOAT
        for body in bodies(node):
            _convert(body)


def _convert_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in _HALVES:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(tensor), np.float32), name))


def _drop_casts(graph: onnx.GraphProto) -> None:
    """Remove Casts to float32 of what is float32: all that `_convert` made of casts between half and float.

    One whose result a body reads or the graph returns stays, as an Identity would.
    """
    floats = {v.name for v in (*graph.input, *graph.value_info) if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats |= {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    inner = {name for node in graph.node for body in bodies(node) for name in _read(body)}
    kept = {value.name for value in graph.output} | inner
    same: dict[str, str] = {}
    gone = []
    for index, node in enumerate(graph.node):
        for position, name in enumerate(node.input):
            node.input[position] = same.get(name, name)
        to_float = node.op_type == "Cast" and any(a.name == "to" and a.i == TensorProto.FLOAT for a in node.attribute)
        if to_float and node.input[0] in floats and node.output[0] not in kept:
            same[node.output[0]] = node.input[0]
            gone.append(index)
    for index in reversed(gone):
        del graph.node[index]


def _read(graph: onnx.GraphProto) -> set[str]:
    found = {name for node in graph.node for name in node.input}
    return found | {name for node in graph.node for body in bodies(node) for name in _read(body)}
