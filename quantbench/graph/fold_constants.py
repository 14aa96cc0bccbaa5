"""Compute weights that a file only describes: FP16 behind a Cast, a Transpose, an Identity, a scale multiplied in, the
parts of a packed projection (torch's in_proj_weight, which its dynamo exporter splits in the graph).

A rule finds a weighted layer by its constant weight, so what compilers fold before anything else is folded here too.
Q and DQ stay: their fate is what placement is about.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantbench.errors import QuantbenchError
from quantbench.graph.subgraphs import captures

# Operators that make a weight of a weight and never more values than they read.
_FOLDED = frozenset({
    "Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Add", "Sub", "Mul", "Div", "Sqrt",
    "Reciprocal", "Neg", "Split", "Slice", "Concat",
})  # fmt: skip


def fold_constants(model: onnx.ModelProto, name: str = "the model") -> onnx.ModelProto:
    """Return `model` (changed in place) with nodes of these operators whose inputs are all constant computed.

    Raises QuantbenchError, which names the first node, where constants do not fit their operator; `name`: what messages
    call the model.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    # An initializer that is an input as well may be replaced by the caller.
    fixed = set(constants) - {value.name for value in graph.input}
    outputs = {value.name for value in graph.output}
    folded: list[onnx.NodeProto] = []
    known = set(fixed)
    for node in graph.node:
        constant = bool(node.input) and all(not name or name in known for name in node.input)
        if constant and node.op_type in _FOLDED and node.domain in ("", "ai.onnx") and not outputs & set(node.output):
            folded.append(node)
            known.update(node.output)
    if not folded:
        return model
    gone = {id(node) for node in folded}
    dead = [index for index, node in enumerate(graph.node) if id(node) in gone]
    rest = [node for node in graph.node if id(node) not in gone]
    needed = outputs | {name for node in rest for name in (*node.input, *captures(node))}
    wanted = [name for node in folded for name in node.output if name in needed]
    try:
        values = _computed(model, folded, constants, wanted)
    except Exception as error:  # the reference raises whatever numpy and its own operators do
        raise QuantbenchError(f"{name}: {_first_fault(model, folded, constants)}; export the model again") from error
    sources = {name for node in folded for name in node.input}
    spent = [i for i, t in enumerate(graph.initializer) if t.name in sources and t.name not in needed]
    # What goes is cut out one by one: a message never gives back the memory of what it once held, so that copying what
    # stays would keep all weights twice.
    for index in reversed(dead):
        del graph.node[index]
    for index in reversed(spent):
        del graph.initializer[index]
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return model


def _computed(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: dict[str, onnx.TensorProto], wanted: list[str]
) -> dict[str, NDArray[np.generic]]:
    from onnx.reference import ReferenceEvaluator  # most models have nothing to fold

    inside = [constants[name] for name in dict.fromkeys(n for node in nodes for n in node.input) if name in constants]
    graph = helper.make_graph(nodes, "constants", [], [onnx.ValueInfoProto(name=name) for name in wanted], inside)
    small = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    found = ReferenceEvaluator(small).run(wanted, {})
    return {name: np.asarray(value) for name, value in zip(wanted, found, strict=True)}


def _first_fault(model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: dict[str, onnx.TensorProto]) -> str:
    """The first of `nodes` that cannot be computed, and why."""
    known = dict(constants)
    for node in nodes:
        made = [name for name in node.output if name]
        try:
            found = _computed(model, [node], known, made)
            known.update({name: numpy_helper.from_array(value, name) for name, value in found.items()})
        except Exception as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            return f"node {node.name or made[0]} ({node.op_type}) cannot be computed of its constants ({why})"
    return "its constants cannot be computed"
