"""GraphView of an ONNX model: shapes from ONNX shape inference, small constants as attributes where rules need them."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from quantbench.graph.shape_values import fold_known
from quantbench.graph.standard import is_plugin, shown_op
from quantbench.graph.subgraphs import bodies, captures
from quantbench.graph.view import GraphView, InnerNode, NodeView, TensorView

# Initializers larger than this take no part in shape inference; leaving their data out keeps it fast.
_SMALL = 1024
# Each round of inference may let shape arithmetic be computed that the next one needs: a C2f block of YOLO takes one.
_ROUNDS = 64


def view_of(model: onnx.ModelProto) -> GraphView:
    """View of the main graph. Node names must be unique (`quantbench.graph.normalise`).

    Shapes come from ONNX shape inference; a model that it cannot infer keeps unknown shapes.
    """
    tensors = _inferred(model)
    for tensor in model.graph.initializer:
        tensors[tensor.name] = TensorView(tensor.name, tuple(tensor.dims), _dtype(tensor.data_type), constant=True)
    constants = {t.name for t in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        nodes.append(NodeView(node.name, shown_op(node), tuple(node.input), tuple(node.output), _attributes(node)))
        # A node fed by constants only, those counted that its bodies read, yields a constant (Q/DQ of weights, shape
        # arithmetic).
        read = (*node.input, *captures(node))
        if node.input and node.op_type != "RandomNormal" and all(not i or i in constants for i in read):
            for out in node.output:
                constants.add(out)
                known = tensors.get(out, TensorView(out))
                tensors[out] = TensorView(out, known.shape, known.dtype, constant=True)
    inputs = tuple(i.name for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer})
    plugins = frozenset(node.name for node in model.graph.node if is_plugin(node))
    outputs = tuple(o.name for o in model.graph.output)
    return GraphView(tuple(nodes), tensors, inputs, outputs, plugins, inner=tuple(_inner(model.graph)))


def _inner(graph: onnx.GraphProto) -> Iterator[InnerNode]:
    """Nodes of all bodies, those without a name named as in the main graph (`quantbench.graph.normalise`), and one with
    the name of another node after its owner too."""
    taken = {node.name for node in graph.node}
    for owner in graph.node:
        for place, node in enumerate(_within(owner)):
            name = node.name or f"node_of_{node.output[0]}"
            if name in taken:
                name = f"{owner.name}/{name}"
            if name in taken:
                name = f"{name}_{place}"
            taken.add(name)
            yield InnerNode(owner.name, NodeView(name, shown_op(node), tuple(node.input), tuple(node.output)))


def _within(owner: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for body in bodies(owner):
        for node in body.node:
            yield node
            yield from _within(node)


def infer_shapes(model: onnx.ModelProto, given: Mapping[str, Sequence[int]] | None = None) -> onnx.ModelProto:
    """Copy of `model` with inferred value_info and without the data of large initializers (they only cost time); with
    `given`, shapes of its inputs, for these alone, whatever the file says of the tensors behind them."""
    bare = onnx.ModelProto()
    _copy_bare(model, bare)
    if given is not None:
        del bare.graph.value_info[:]
        for value in bare.graph.input:
            if value.name in given:
                kind = value.type.tensor_type.elem_type
                value.CopyFrom(helper.make_tensor_value_info(value.name, kind, list(given[value.name])))
        for value in bare.graph.output:
            value.type.tensor_type.ClearField("shape")
    known = {value.name: value for value in bare.graph.value_info}
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
        for _ in range(_ROUNDS):
            known |= {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}
            if not fold_known(inferred.graph):
                break
            del inferred.graph.value_info[:]
            inferred = onnx.shape_inference.infer_shapes(inferred, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        pass  # what is known by then stays; ValueError: onnx's own library cannot read what Python's could
    outputs = [known.pop(value.name, value) for value in bare.graph.output]
    del bare.graph.value_info[:], bare.graph.output[:]
    bare.graph.value_info.extend(known.values())
    bare.graph.output.extend(outputs)
    return bare


def _copy_bare(model: onnx.ModelProto, bare: onnx.ModelProto) -> None:
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph = bare.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    listed = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        count = 1
        for d in tensor.dims:
            count *= d
        if count <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in listed:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def _inferred(model: onnx.ModelProto) -> dict[str, TensorView]:
    inferred = infer_shapes(model).graph
    return {
        value.name: TensorView(value.name, _shape(value), _dtype(value.type.tensor_type.elem_type))
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.HasField("tensor_type")
    }


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str | None, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    dims: list[int | str | None] = []
    for d in tensor.shape.dim:
        if d.HasField("dim_value"):
            dims.append(d.dim_value)
        else:
            dims.append(d.dim_param or None)
    return tuple(dims)


@functools.cache
def _dtype(elem_type: int) -> str:
    if elem_type == TensorProto.UNDEFINED:
        return "float32"
    return str(helper.tensor_dtype_to_np_dtype(elem_type))


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            continue
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, TensorProto):
            value = numpy_helper.to_array(value)
        elif attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            value = tuple(value)
        values[attribute.name] = value
    return values
