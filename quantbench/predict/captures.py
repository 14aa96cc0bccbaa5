"""Bodies of If, Loop and Scan in the view that is predicted: what they capture is read, their Q and DQ are counted."""

from collections import Counter
from dataclasses import replace

import onnx

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.graph.subgraphs import bodies, captures
from quantbench.graph.view import GraphView


def with_captures(view: GraphView, model: onnx.ModelProto) -> GraphView:
    """`view` of `model` with captured tensors as further inputs of the nodes whose bodies read them."""
    found = {node.name: captures(node) for node in model.graph.node if any(True for _ in bodies(node))}
    if not found:
        return view
    nodes = tuple(replace(n, inputs=(*n.inputs, *found.get(n.name, ()))) for n in view.nodes)
    return GraphView(nodes, view.tensors, view.inputs, view.outputs)


def inner_nodes(model: onnx.ModelProto) -> dict[str, int]:
    """Nodes in bodies of If, Loop and Scan, by operator: what a prediction holds as one layer a node with bodies."""
    waiting = [body for node in model.graph.node for body in bodies(node)]
    counts: Counter[str] = Counter()
    while waiting:
        for node in waiting.pop().node:
            counts[node.op_type] += 1
            waiting.extend(bodies(node))
    return dict(counts)


def inner_qdq(model: onnx.ModelProto) -> int:
    """How many Q and DQ stand in bodies of If, Loop and Scan, where no prediction reaches."""
    waiting = [body for node in model.graph.node for body in bodies(node)]
    count = 0
    while waiting:
        for node in waiting.pop().node:
            count += node.op_type in (QUANTIZE, DEQUANTIZE)
            waiting.extend(bodies(node))
    return count
