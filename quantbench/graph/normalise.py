"""Bring a model into the one form that the rules and inserters expect, without changing what it computes."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def normalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` (changed in place) with unique node names, Constant nodes turned into initializers, and a name
    for each unknown dimension of its inputs and outputs.

    Node names are what plans, reports and engine logs speak of, so unnamed nodes get the name that TensorRT's parser
    gives them, `node_of_<first output>` (10.10 and 11.1 engines).
    """
    _constants_to_initializers(model)
    _name_nodes(model)
    _name_unknown_dimensions(model)
    return model


def _name_unknown_dimensions(model: onnx.ModelProto) -> None:
    """Exporters also write an unknown size as -1 (Paddle), 0 or "?": numbers look known, equal names look equal."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if not value.type.tensor_type.HasField("shape"):
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if (dim.HasField("dim_value") and dim.dim_value <= 0) or dim.dim_param == "?":
                dim.dim_param = f"{value.name}_dim_{axis}"


def _constants_to_initializers(model: onnx.ModelProto) -> None:
    outputs = {value.name for value in model.graph.output}
    kept = []
    for node in model.graph.node:
        tensor = constant_of(node)
        if tensor is None or node.output[0] in outputs:
            kept.append(node)
            continue
        model.graph.initializer.append(tensor)
    if len(kept) != len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(kept)


def constant_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """What a Constant node holds, under the name of its output; None for other nodes, strings and sparse values."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    for attribute in node.attribute:
        if attribute.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
            return tensor
        dtype = _NUMBERS.get(attribute.name)
        if dtype is not None:
            return numpy_helper.from_array(np.asarray(helper.get_attribute_value(attribute), dtype), node.output[0])
    return None


def _name_nodes(model: onnx.ModelProto) -> None:
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        first = next((output for output in node.output if output), f"{node.op_type}_{index}")
        name = node.name or f"node_of_{first}"
        while name in taken:
            name += "_"
        taken.add(name)
        node.name = name
