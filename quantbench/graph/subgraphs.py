"""The bodies of If, Loop and Scan, and what they read of the graph around them, which their nodes do not list."""

from collections.abc import Iterator

import onnx


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs that `node` holds as attributes."""
    for attribute in node.attribute:
        kind = attribute.type
        if kind == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif kind == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor of `graph`: initializers, attributes of its nodes, and those of the bodies in it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for body in bodies(node):
            yield from tensors_of(body)


def captures(node: onnx.NodeProto) -> tuple[str, ...]:
    """Tensors of the outer graph that the bodies of `node` read, in order; () for a node without bodies."""
    return tuple(dict.fromkeys(name for body in bodies(node) for name in _free(body)))


def _free(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that `graph` reads and does not make."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {out for node in graph.node for out in node.output}
    for node in graph.node:
        yield from (name for name in (*node.input, *captures(node)) if name and name not in own)
    yield from (value.name for value in graph.output if value.name not in own)
