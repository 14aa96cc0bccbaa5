"""Tidy an exported Q/DQ model: no constant or identity noise, one Q/DQ pair a tensor, names that lead to modules."""

import ast
import contextlib

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantbench.graph.normalise import normalise
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
    graph = gs.import_onnx(normalise(model))
    graph.fold_constants(fold_shapes=True, error_ok=True)
    _drop_identities(graph)
    fuse_pads(graph)
    _merge_pairs(graph)
    raise_weight_scales(graph)
    graph.cleanup()
    if int8_weights:
        _store_int8(graph)
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    result: onnx.ModelProto = gs.export_onnx(graph)
    result.ir_version = min(result.ir_version, max(model.ir_version, 8))
    result.producer_name = "quantbench"
    onnx.checker.check_model(result)
    return normalise(result)


def _name_by_scope(model: onnx.ModelProto) -> onnx.ModelProto:
    """Name the dynamo exporter's nodes after their modules (`/model.0.conv/Conv`), and drop its notes: they hold
    source lines and paths of the exporting machine."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
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
            key = (id(node.inputs[0]), node.inputs[1].values.tobytes(), node.attrs.get("axis"))
            known = first.setdefault(key, node)
            if known is node or node.outputs[0] in graph.outputs:
                continue
            for reader in list(node.outputs[0].outputs):
                reader.inputs = [known.outputs[0] if t is node.outputs[0] else t for t in reader.inputs]
            node.outputs.clear()


def _store_int8(graph: gs.Graph) -> None:
    for node in list(graph.nodes):
        if node.op != "QuantizeLinear" or not isinstance(node.inputs[0], gs.Constant):
            continue
        weight, scale = node.inputs[0], node.inputs[1]
        if not isinstance(scale, gs.Constant):
            continue
        axis = node.attrs.get("axis") if np.ndim(scale.values) else None
        values = quantize_weight(np.asarray(weight.values), np.asarray(scale.values, np.float32), axis)
        stored = gs.Constant(f"{weight.name}_int8", values)
        quantized = node.outputs[0]
        for reader in list(quantized.outputs):
            reader.inputs = [stored if t is quantized else t for t in reader.inputs]
        node.outputs.clear()
