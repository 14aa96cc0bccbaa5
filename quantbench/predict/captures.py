"""What the bodies of If, Loop and Scan read of the graph around them, which their nodes do not list as inputs."""

from collections.abc import Iterator
from dataclasses import replace

import onnx

from quantbench.graph.view import GraphView
from quantbench.predict.net import DEQUANTIZE, QUANTIZE


def captures(node: onnx.NodeProto) -> tuple[str, ...]:
    """Tensors of the outer graph that the bodies of `node` read, in order; () for a node without bodies."""
    return tuple(dict.fromkeys(name for body in _bodies(node) for name in _free(body)))


def with_captures(view: GraphView, model: onnx.ModelProto) -> GraphView:
    """`view` of `model` with captured tensors as further inputs of the nodes whose bodies read them."""
    found = {node.name: captures(node) for node in model.graph.node if any(True for _ in _bodies(node))}
    if not found:
        return view
    nodes = tuple(replace(n, inputs=(*n.inputs, *found.get(n.name, ()))) for n in view.nodes)
    return GraphView(nodes, view.tensors, view.inputs, view.outputs)


def inner_qdq(model: onnx.ModelProto) -> int:
    """How many Q and DQ stand in bodies of If, Loop and Scan, where no prediction reaches."""
    waiting = [body for node in model.graph.node for body in _bodies(node)]
    count = 0
    while waiting:
        for node in waiting.pop().node:
            count += node.op_type in (QUANTIZE, DEQUANTIZE)
            waiting.extend(_bodies(node))
    return count


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _free(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that `graph` reads and does not make."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {out for node in graph.node for out in node.output}
    for node in graph.node:
        yield from (name for name in (*node.input, *captures(node)) if name and name not in own)
    yield from (value.name for value in graph.output if value.name not in own)
