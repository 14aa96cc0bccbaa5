"""Take Q/DQ out of an ONNX model: the float model that remains, and the scales that stood in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from quantbench.cache.restore_relu import restore_relus
from quantbench.calibration.ranges import INT8_MAX
from quantbench.errors import QuantbenchError
from quantbench.graph.ops import KEEPS_VALUES
from quantbench.graph.surgery import check, copied
from quantbench.qdq.record import forget
from quantbench.qdq.weights import weight_scale

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_INTEGER_OPS = ("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm")
# BF16 rounds a scale by up to 0.2 %; a scale from training or clipping is farther off.
_SCALE_TOLERANCE = 4e-3
# Lowest level, highest level, zero point of the symmetric grid.
_EIGHT_BITS = {"int8": (-128, 127, 0), "uint8": (0, 255, 128)}


@dataclass
class Stripped:
    """`scales`: tensor of the float model to amax/127 of its Q (the widest where there are several).

    `quantized_inputs`: by node, the indices of inputs that came out of a DQ. `notes` are what could not be kept, or
    was put back. `clamped`: tensors whose grid begins at 0.
    """

    model: onnx.ModelProto
    scales: dict[str, float] = field(default_factory=dict)
    quantized_inputs: dict[str, set[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    clamped: set[str] = field(default_factory=set)


def strip_qdq(model: onnx.ModelProto) -> Stripped:
    """Return `model` (a copy) without Q and DQ nodes.

    Weights stored as integers behind a DQ become float32. Raises QuantbenchError for a model without Q/DQ, for one
    that computes on integers (QLinearConv, Clip between Q and DQ …), and for scales that are not constant.
    """
    clean = copied(model)
    forget(clean)
    graph = clean.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    _refuse_integers(graph)
    result = Stripped(clean)
    casts = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    same: dict[str, str] = {}
    odd_weights = 0
    for node in graph.node:
        if node.op_type not in (_Q, _DQ):
            continue
        source = _resolve(node.input[0], same)
        scale, zero = _parameters(node, constants)
        if node.op_type == _Q and source in constants and _is_integer(constants[source]):
            raise QuantbenchError(
                f"{node.op_type} {node.name} quantizes {source}, which holds integers already; export the model anew"
            )
        if source in constants and node.op_type == _DQ and _is_integer(constants[source]):
            source = _dequantize(graph, constants, node, scale, zero)
        elif source in constants:
            odd_weights += node.op_type == _Q and not _is_own_scale(constants[source], scale, _axis(node))
        else:
            # A cast in front of Q (of an FP16 model) has the values of the tensor that it casts.
            _observe(result, _resolve(source, casts), node, scale, zero)
        same[node.output[0]] = source
    if not same:
        raise QuantbenchError("the model holds no Q/DQ nodes; give a quantized one")
    if odd_weights:
        result.notes.append(f"{odd_weights} weights have scales other than max|w|/127, which TensorRT will not "
                            "reproduce from a cache; their accuracy may differ")  # fmt: skip
    if any(name in casts for name in same.values()):
        result.notes.append("the model was cast to FP16 or BF16, and the float model keeps the casts; for TensorRT 10 "
                            "make both from the FP32 Q/DQ model, and give trtexec --fp16")  # fmt: skip
    _rewire(graph, same, result)
    restored = restore_relus(graph, result.clamped)
    if restored:
        result.notes.append(
            f"{len(restored)} Relus put back that Q had replaced (grids from 0), the first at {restored[0]}"
        )
    _drop_unused(graph)
    check(clean)
    return result


def _refuse_integers(graph: onnx.GraphProto) -> None:
    quantized = {node.output[0]: node.name for node in graph.node if node.op_type == _Q}
    for node in graph.node:
        if node.op_type.startswith(_INTEGER_OPS):
            raise QuantbenchError(
                f"node {node.name} ({node.op_type}) computes on integers; give the Q/DQ form of the model"
            )
        if node.op_type in (_DQ, "Resize") or not any(name in quantized for name in node.input):
            continue
        if node.op_type not in KEEPS_VALUES:
            raise QuantbenchError(
                f"node {node.name} ({node.op_type}) computes on quantized integers, as models prepared for onnxruntime "
                f"do; give the Q/DQ model that was made for TensorRT (model.qdq.onnx)"
            )
        quantized[node.output[0]] = node.name


def _resolve(name: str, same: Mapping[str, str]) -> str:
    """What `name` is without Q and DQ; a dequantized weight may have taken the name of its DQ's output."""
    while same.get(name, name) != name:
        name = same[name]
    return name


def _parameters(
    node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
    """Scale and zero point (None where absent) of a Q or DQ."""
    for name in node.input[1:3]:
        if name and name not in constants:
            raise QuantbenchError(
                f"{node.op_type} {node.name}: {name} is computed, not constant; export the model anew"
            )
    scale = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
    has_zero = len(node.input) > 2 and node.input[2]
    return scale, numpy_helper.to_array(constants[node.input[2]]) if has_zero else None


def _observe(
    result: Stripped,
    tensor: str,
    node: onnx.NodeProto,
    scale: npt.NDArray[np.float64],
    zero: npt.NDArray[np.int64] | None,
) -> None:
    """Record amax/127 of the grid of a Q or DQ on an activation."""
    grid = _EIGHT_BITS.get("uint8" if zero is None else str(zero.dtype))
    if grid is None:
        result.notes.append(
            f"{tensor} is quantized to {zero.dtype if zero is not None else '?'}, not to 8 bits: no range"
        )
        return
    lowest, highest, middle = grid
    point = 0 if zero is None else int(zero.reshape(-1)[0])
    if scale.size > 1:
        result.notes.append(f"{tensor} has a scale per channel; the widest is taken")
    if point == lowest and node.op_type == _Q:
        result.clamped.add(tensor)
    widest = float(scale.max())
    steps = INT8_MAX if point == middle else max(abs(lowest - point), abs(highest - point))
    value = widest * steps / INT8_MAX
    if tensor in result.scales and result.scales[tensor] != value:
        result.notes.append(f"{tensor} is quantized with different scales; the wider is taken")
    result.scales[tensor] = max(value, result.scales.get(tensor, 0.0))


def _dequantize(
    graph: onnx.GraphProto,
    constants: dict[str, onnx.TensorProto],
    node: onnx.NodeProto,
    scale: npt.NDArray[np.float64],
    zero: npt.NDArray[np.int64] | None,
) -> str:
    """Add the float32 values of an integer initializer behind DQ `node`; return the new initializer's name."""
    source = node.input[0]
    values = numpy_helper.to_array(constants[source])
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[_axis(node)] = -1
    offset = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64)
    floats = (values.astype(np.int64) - offset.reshape(shape if offset.size > 1 else -1 if values.ndim else ())) * (
        scale.reshape(shape) if scale.size > 1 else float(scale.reshape(-1)[0])
    )
    name = source.removesuffix("_int8").removesuffix("_quantized")
    if name in constants or name == source:
        name = node.output[0]
    tensor = numpy_helper.from_array(floats.astype(np.float32).reshape(values.shape), name)
    graph.initializer.append(tensor)
    constants[name] = tensor
    return name


def _axis(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "axis"), 1)


def _is_integer(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32)


def _is_own_scale(tensor: onnx.TensorProto, scale: npt.NDArray[np.float64], axis: int) -> bool:
    """Whether TensorRT, which takes max|w|/127, would find `scale` too."""
    weight = numpy_helper.to_array(tensor)
    own = weight_scale(weight, axis % weight.ndim if scale.size > 1 else None)
    return own.shape == scale.shape and bool(np.allclose(own, scale, rtol=_SCALE_TOLERANCE))


def _rewire(graph: onnx.GraphProto, same: Mapping[str, str], result: Stripped) -> None:
    """Connect around the Q and DQ nodes; graph outputs keep their names.

    A tensor that is also read beside its Q was not clamped for that reader: it is left out of `clamped`.
    """
    result.clamped -= {name for node in graph.node if node.op_type not in (_Q, _DQ) for name in node.input}
    rename: dict[str, str] = {}
    produced = {out for node in graph.node if node.op_type not in (_Q, _DQ) for out in node.output}
    outputs = {value.name for value in graph.output}
    extra = []
    for name in [value.name for value in graph.output if value.name in same]:
        source = _resolve(name, same)
        if source in produced and source not in outputs and source not in rename:
            rename[source] = name
        else:
            extra.append(helper.make_node("Identity", [source], [name], name=f"{name}_identity"))
    kept = []
    for node in graph.node:
        if node.op_type in (_Q, _DQ):
            continue
        result.quantized_inputs[node.name] = {i for i, name in enumerate(node.input) if name in same}
        for i, name in enumerate(node.input):
            source = _resolve(name, same)
            node.input[i] = rename.get(source, source)
        for i, name in enumerate(node.output):
            node.output[i] = rename.get(name, name)
        kept.append(node)
    for node in extra:
        node.input[0] = rename.get(node.input[0], node.input[0])
    del graph.node[:]
    graph.node.extend([*kept, *extra])
    result.clamped = {rename.get(name, name) for name in result.clamped}
    result.scales = {rename.get(name, name): scale for name, scale in result.scales.items()}
    # Types of tensors between Q and DQ were integers; shapes are inferred again by whoever needs them.
    del graph.value_info[:]


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the scales, zero points and integer weights that nobody reads any more."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
