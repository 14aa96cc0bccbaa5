"""Carry out a Plan on an ONNX model: insert QuantizeLinear/DequantizeLinear with onnx-graphsurgeon."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantbench.calibration.ranges import INT8_MAX, Ranges
from quantbench.errors import QuantbenchError
from quantbench.graph.surgery import check, edited, values_of
from quantbench.qdq.bias_range import raise_weight_scales
from quantbench.qdq.fold_affine import fold_affine
from quantbench.qdq.options import WeightScales
from quantbench.qdq.plan import OUTPUT, Plan
from quantbench.qdq.weights import weight_scale

# An activation that calibration only ever saw as zero: any positive scale represents it.
_DEAD_SCALE = np.float32(1.0 / INT8_MAX)
_SUFFIXES = ("_quantized", "_dequantized", "_scale", "_zero_point", "_int8", "_raw", "_folded_bias")


def insert_qdq(
    model: onnx.ModelProto, plan: Plan, ranges: Ranges, *, weight_scales: WeightScales = "max"
) -> onnx.ModelProto:
    """Return a copy of `model` with the Q/DQ of `plan`; scales are amax/127, zero points 0 (symmetric INT8).

    Activations share one Q and one DQ per tensor. The scale of a group is that of its largest amax. Weight scales are
    those of `weights.weight_scale`, or larger where the bias would else not fit INT32 (`bias_range`). Weights are
    stored as float behind Q and DQ.

    Raises QuantbenchError where `ranges` lacks a tensor of the plan, or holds a range that is negative or not finite.
    """
    scales = activation_scales(plan, ranges)
    result = edited(model, lambda graph: _carry_out(graph, plan, scales, weight_scales))
    result.ir_version = max(result.ir_version, 8)
    check(result)
    return result


def _carry_out(graph: gs.Graph, plan: Plan, scales: Mapping[str, np.float32], weight_scales: WeightScales) -> None:
    fold_affine(graph, plan.folded)
    nodes = {node.name: node for node in graph.nodes}
    tensors = graph.tensors()
    taken = set(tensors)
    done: dict[str, gs.Variable] = {}
    for site in plan.activations:
        if site.tensor not in done:
            done[site.tensor] = _insert_pair(
                graph, tensors[site.tensor], _stem(site.tensor, taken), np.asarray(scales[site.tensor]), None
            )
        pair = done[site.tensor]
        if site.node == OUTPUT:
            _return(graph, site.index, pair)
        else:
            nodes[site.node].inputs[site.index] = pair.inputs[0].inputs[0] if site.alone else pair
    done_weights: dict[tuple[str, int | None], gs.Variable] = {}
    for weight in plan.weights:
        key = (weight.tensor, weight.axis)
        if key not in done_weights:
            constant = tensors[weight.tensor]
            scale = weight_scale(values_of(constant), weight.axis, weight_scales)
            done_weights[key] = _insert_pair(graph, constant, _stem(weight.tensor, taken), scale, weight.axis)
        nodes[weight.node].inputs[weight.index] = done_weights[key]
    raise_weight_scales(graph)


def activation_scales(plan: Plan, ranges: Ranges) -> Mapping[str, np.float32]:
    """Scale of every activation tensor of `plan`; members of a group share the largest amax."""
    amax = group_amax(plan, ranges)
    scales = {}
    for site in plan.activations:
        scale = np.float32(amax[site.group] / INT8_MAX)
        scales[site.tensor] = scale if scale > 0 else _DEAD_SCALE
    return scales


def group_amax(plan: Plan, ranges: Ranges) -> dict[str, float]:
    """The largest amax of each group of `plan`.

    Raises QuantbenchError for a tensor without a range, and for one whose range is no number.
    """
    amax: dict[str, float] = {}
    for site in plan.activations:
        if site.tensor not in ranges:
            raise QuantbenchError(f"no range for tensor {site.tensor}; calibrate again (--refresh)")
        value = ranges[site.tensor].amax
        if not np.isfinite(value) or value < 0:
            raise QuantbenchError(f"range of tensor {site.tensor} is {value}; the model or an image overflows")
        amax[site.group] = max(amax.get(site.group, 0.0), value)
    return amax


def _return(graph: gs.Graph, place: int, pair: gs.Variable) -> None:
    """Let output `place` of `graph` be `pair`, under the name that the output had."""
    computed = graph.outputs[place]
    pair.name, computed.name, pair.shape = (
        computed.name,
        f"{pair.name.removesuffix('_dequantized')}_raw",
        computed.shape,
    )
    graph.outputs[place] = pair


def _stem(name: str, taken: set[str]) -> str:
    """`name`, with underscores added until what is named after it meets no tensor that the model has already."""
    while any(f"{name}{suffix}" in taken for suffix in _SUFFIXES):
        name += "_"
    taken.update(f"{name}{suffix}" for suffix in _SUFFIXES)
    return name


def _insert_pair(graph: gs.Graph, tensor: gs.Tensor, name: str, scale: np.ndarray, axis: int | None) -> gs.Variable:
    scale, zero = _constants(name, scale, _dtype(tensor))
    attributes = {} if axis is None else {"axis": axis}
    quantized = gs.Variable(f"{name}_quantized", dtype=np.int8)
    output = gs.Variable(f"{name}_dequantized", dtype=_dtype(tensor))
    graph.nodes.append(
        gs.Node("QuantizeLinear", f"{name}_QuantizeLinear", attributes, [tensor, scale, zero], [quantized])
    )
    graph.nodes.append(
        gs.Node("DequantizeLinear", f"{name}_DequantizeLinear", dict(attributes), [quantized, scale, zero], [output])
    )
    return output


def _constants(name: str, scale: np.ndarray, dtype: np.dtype) -> tuple[gs.Constant, gs.Constant]:
    values = np.asarray(scale, dtype=dtype)
    return gs.Constant(f"{name}_scale", values), gs.Constant(f"{name}_zero_point", np.zeros(values.shape, np.int8))


def _dtype(tensor: gs.Tensor) -> np.dtype:
    """Raises QuantbenchError for a type of the standard that numpy has not, as 8-bit floats."""
    if tensor.dtype is None:
        return np.dtype(np.float32)
    try:
        known: np.dtype = np.dtype(tensor.dtype)
    except TypeError as error:
        kind = onnx.TensorProto.DataType.Name(tensor.dtype)
        raise QuantbenchError(
            f"tensor {tensor.name!r} is of type {kind}: Q/DQ wants float32, float16 or bfloat16; export the model so"
        ) from error
    return known
