"""Inputs that are lists by the standard and not by every runtime: onnxruntime drops a Slice that cuts nothing before it
looks at them, and TensorRT's parser reads past the end of what is a scalar or a matrix there."""

from collections.abc import Iterator, Mapping

import onnx
from onnx import NodeProto, TensorProto

from quantbench.errors import QuantbenchError
from quantbench.graph.normalise import constant_of
from quantbench.graph.standard import DOMAINS
from quantbench.graph.subgraphs import bodies

# Place to name. ONNX Operators.md, Slice since 10: "1-D tensor of …" of each; TensorRT-RTX 1.7.1 crashes over `starts`
# and `steps` of other ranks and refuses such `ends`; it takes such `axes`, and onnxruntime does not.
_LISTS: Mapping[str, Mapping[int, str]] = {"Slice": {1: "starts", 2: "ends", 4: "steps"}}


def odd_lists(
    graph: onnx.GraphProto, outside: Mapping[str, TensorProto] | None = None
) -> Iterator[tuple[NodeProto, str]]:
    """Each node of `graph` and its bodies with a constant of another rank than 1 where ONNX has a list, and what it
    is; `outside`: constants of the graph around it."""
    constants = {**(outside or {}), **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        held = constant_of(node)
        if held is not None:
            constants[held.name] = held
        if node.domain in DOMAINS:
            for place, name in _LISTS.get(node.op_type, {}).items():
                tensor = constants.get(node.input[place]) if place < len(node.input) else None
                if tensor is not None and len(tensor.dims) != 1:
                    yield node, f"its {name} has {len(tensor.dims)} dimensions where ONNX has a list"
        for body in bodies(node):
            yield from odd_lists(body, constants)


def check_lists(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError for the first node of `odd_lists`; `name`: what messages call the model."""
    for node, what in odd_lists(model.graph):
        raise QuantbenchError(
            f"{name}: node {node.name or f'that writes {node.output[0]!r}'} ({node.op_type}): {what}, and NVIDIA's "
            f"parser may crash on it; export the model again, or leave the node out where it cuts nothing"
        )
