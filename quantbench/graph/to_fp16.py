"""Cast the float parts of a model to FP16, Q/DQ scales included; network inputs and outputs stay FP32.

TensorRT 11 and TensorRT-RTX are strongly typed: there is no FP16 builder flag, so the ONNX model itself must say it.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantbench.errors import QuantbenchError

# The first opset whose QuantizeLinear and DequantizeLinear take FP16 and FP16 scales.
FP16_QDQ_OPSET = 19
_LARGEST = np.float32(np.finfo(np.float16).max)
# Scales below the smallest normal FP16 number would lose digits or vanish.
_SMALLEST_SCALE = np.float32(2.0**-14)
# (op, input index) of float inputs that the ONNX standard fixes to FP32.
_STAY = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model` (FP32 floats) whose tensors are FP16, with a Cast behind inputs and before outputs.

    Weights beyond FP16's range are clipped to it. Raises QuantbenchError where the opset cannot be raised.
    """
    copy = _raised(model)
    graph = copy.graph
    del graph.value_info[:]
    _cast_constants(copy)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_half(attribute.t))
    stored = {tensor.name for tensor in graph.initializer}
    before = [_cast_input(graph, v) for v in graph.input if _is_float(v) and v.name not in stored]
    after = [_cast_output(graph, value) for value in graph.output if _is_float(value)]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


def _raised(model: onnx.ModelProto) -> onnx.ModelProto:
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    has_qdq = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)
    if has_qdq and opset < FP16_QDQ_OPSET:
        try:
            return onnx.version_converter.convert_version(model, FP16_QDQ_OPSET)
        except (RuntimeError, ValueError) as error:
            raise QuantbenchError(
                f"opset {opset} cannot be raised to {FP16_QDQ_OPSET}, which FP16 Q/DQ needs "
                f"({str(error).splitlines()[0]}); export with opset {FP16_QDQ_OPSET} or use --precision fp32"
            ) from error
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _cast_constants(model: onnx.ModelProto) -> None:
    """Make float initializers FP16. One that an op takes in FP32 only keeps its type; if both happen, it is copied."""
    graph = model.graph
    fixed = {(n.input[i]) for n in graph.node for i in range(len(n.input)) if (n.op_type, i) in _STAY and n.input[i]}
    scales = {n.input[1] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in fixed:
            continue
        half = _half(tensor, smallest=_SMALLEST_SCALE if tensor.name in scales else None)
        half.name = tensor.name
        tensor.CopyFrom(half)


def _half(tensor: onnx.TensorProto, smallest: np.float32 | None = None) -> onnx.TensorProto:
    values = np.clip(numpy_helper.to_array(tensor), -_LARGEST, _LARGEST)
    if smallest is not None:
        values = np.maximum(values, smallest)
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _cast_input(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> onnx.NodeProto:
    inner = f"{value.name}_fp16"
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == value.name:
                node.input[index] = inner
    return helper.make_node("Cast", [value.name], [inner], name=f"{value.name}_to_fp16", to=TensorProto.FLOAT16)


def _cast_output(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> onnx.NodeProto:
    inner = f"{value.name}_fp16_out"
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == value.name:
                    names[index] = inner
    return helper.make_node("Cast", [inner], [value.name], name=f"{value.name}_to_fp32", to=TensorProto.FLOAT)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type == TensorProto.FLOAT
