"""Tidy an exported Q/DQ model: no constant or identity noise, one Q/DQ pair a tensor, names that lead to modules."""

import ast
import contextlib

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantbench.graph.normalise import normalise
from quantbench.graph.ops import QDQ_AXIS
from quantbench.graph.surgery import check, copied, edited
from quantbench.qat.fuse_pads import fuse_pads
from quantbench.qdq.bias_range import raise_weight_scales
from quantbench.qdq.weights import quantize_weight

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_SCOPES = "pkg.torch.onnx.name_scopes"


def clean(model: onnx.ModelProto, *, int8_weights: bool = False) -> onnx.ModelProto:
    """A tidy copy of `model` that computes the same. With `int8_weights` weights are stored as INT8 behind a DQ."""
    model = _name_by_scope(model)
    with contextlib.suppress(onnx.shape_inference.InferenceError, RuntimeError):  # shapes only help folding
        model = onnx.shape_inference.infer_shapes(model)
    result = edited(normalise(model), lambda graph: _tidy(graph, int8_weights=int8_weights))
    result.ir_version = max(result.ir_version, 8)
    result.producer_name, result.producer_version = "quantbench", ""
    check(result)
    return normalise(result)


def _tidy(graph: gs.Graph, *, int8_weights: bool) -> None:
    graph.fold_constants(fold_shapes=True, error_ok=True)
    _drop_identities(graph)
    fuse_pads(graph)
    _turn_weights(graph)
    _merge_pairs(graph)
    raise_weight_scales(graph)
    graph.cleanup()
    if int8_weights:
        _store_int8(graph)


def _name_by_scope(model: onnx.ModelProto) -> onnx.ModelProto:
    """Name the dynamo exporter's nodes after their modules (`/model.0.conv/Conv`), and drop its notes: they hold
    source lines and paths of the exporting machine."""
    copy = copied(model)
    for node in copy.graph.node:
        notes = {p.key: p.value for p in node.metadata_props}
        if _SCOPES in notes:
            scopes = ast.literal_eval(notes[_SCOPES])
            module = next((s for s in reversed(scopes[:-1]) if s), "")
            node.name = f"/{module}/{node.op_type}" if module else f"/{node.op_type}"
        del node.metadata_props[:]
    for values in (copy.graph.value_info, copy.graph.input, copy.graph.output):
        for value in values:
            del value.metadata_props[:]
    for tensor in copy.graph.initializer:
        del tensor.metadata_props[:]
    del copy.graph.metadata_props[:]
    return copy


def _drop_identities(graph: gs.Graph) -> None:
    for node in list(graph.nodes):
        if node.op != "Identity" or not node.outputs or node.outputs[0] in graph.outputs:
            continue
        source, copied = node.inputs[0], node.outputs[0]
        for reader in list(copied.outputs):
            reader.inputs = [source if tensor is copied else tensor for tensor in reader.inputs]
        node.outputs.clear()


def _merge_pairs(graph: gs.Graph) -> None:
    """Let all readers of a tensor share one Q and one DQ of equal scale and zero point."""
    for op in _QDQ:
        first: dict[tuple[object, ...], gs.Node] = {}
        for node in list(graph.nodes):
            if node.op != op or not isinstance(node.inputs[1], gs.Constant):
                continue
            key = (id(node.inputs[0]), node.inputs[1].values.tobytes(), node.attrs.get("axis", QDQ_AXIS))
            known = first.setdefault(key, node)
            if known is node or node.outputs[0] in graph.outputs:
                continue
            for reader in list(node.outputs[0].outputs):
                reader.inputs = [known.outputs[0] if t is node.outputs[0] else t for t in reader.inputs]
            node.outputs.clear()


def _turn_weights(graph: gs.Graph) -> None:
    """Store the quantized weight of a linear layer as its MatMul reads it: torch exports W, Q, DQ, Transpose."""
    for node in list(graph.nodes):
        if node.op != "Transpose" or list(node.attrs.get("perm", [])) != [1, 0]:
            continue
        made = node.inputs[0]
        dequantize = made.inputs[0] if made.inputs else None
        if dequantize is None or dequantize.op != "DequantizeLinear" or node.outputs[0] in graph.outputs:
            continue
        quantized = dequantize.inputs[0]
        quantize = quantized.inputs[0] if quantized.inputs else None
        if quantize is None or quantize.op != "QuantizeLinear" or not isinstance(quantize.inputs[0], gs.Constant):
            continue
        if len(made.outputs) != 1 or len(quantized.outputs) != 1 or not isinstance(quantize.inputs[1], gs.Constant):
            continue
        weight = quantize.inputs[0]
        quantize.inputs[0] = gs.Constant(f"{weight.name}_turned", np.ascontiguousarray(np.asarray(weight.values).T))
        for pair in (quantize, dequantize):
            if np.ndim(pair.inputs[1].values):
                pair.attrs["axis"] = 1 - int(pair.attrs.get("axis", 1))
        for reader in list(node.outputs[0].outputs):
            reader.inputs = [made if tensor is node.outputs[0] else tensor for tensor in reader.inputs]
        for tensor in (quantized, made):
            if tensor.shape is not None:
                tensor.shape = list(reversed(tensor.shape))
        node.outputs.clear()


def _store_int8(graph: gs.Graph) -> None:
    for node in list(graph.nodes):
        if node.op != "QuantizeLinear" or not isinstance(node.inputs[0], gs.Constant):
            continue
        weight, scale = node.inputs[0], node.inputs[1]
        if not isinstance(scale, gs.Constant):
            continue
        axis = node.attrs.get("axis", QDQ_AXIS) if np.ndim(scale.values) else None
        values = quantize_weight(np.asarray(weight.values), np.asarray(scale.values, np.float32), axis)
        stored = gs.Constant(f"{weight.name}_int8", values)
        quantized = node.outputs[0]
        for reader in list(quantized.outputs):
            reader.inputs = [stored if t is quantized else t for t in reader.inputs]
        node.outputs.clear()
