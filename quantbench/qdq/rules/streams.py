"""Residual streams that a layer norm reads: the chains of Adds of transformers, ConvNeXt and group-normed U-Nets."""

from typing import TypeGuard

from quantbench.graph.ops import AVERAGES, SAMPLE_NORMS
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.ops import is_mover


def normalised_streams(view: GraphView) -> frozenset[str]:
    """Names of the Adds of two activations whose sum a layer, group, instance or RMS norm reads, or a later Add of
    such a sum; and of those that go on with such a tensor, as the last one of a pre-norm encoder does. A norm reads
    what a depthwise conv or an average gives it of a sum, too: the blocks of ConvNeXt begin so, and its head."""
    normed: set[str] = set()  # tensors that a norm reads, here or further down the stream
    adds: set[str] = set()
    for node in reversed(view.nodes):
        passes = is_mover(node) or node.op == "Concat"
        joins = node.op == "Add"
        if joins or passes:
            if not any(out in normed for out in node.outputs):
                continue
            if joins and not any(view.is_constant(name) for name in node.inputs):
                adds.add(node.name)
            normed.update(name for name in node.inputs if name and not view.is_constant(name))
        elif node.op in SAMPLE_NORMS or (
            (_is_depthwise(view, node) or node.op in AVERAGES) and normed & {*node.outputs}
        ):
            normed.add(node.inputs[0])
        elif (centred := _centred(view, node)) is not None:
            normed.add(centred)
    # Only what comes out of an Add is a stream: a conv's output that a norm reads may well be added elsewhere.
    streams = {out for node in view.nodes if node.name in adds for out in node.outputs}
    for node in view.nodes:
        joins = node.op == "Add" and not any(view.is_constant(name) for name in node.inputs)
        if (joins or is_mover(node)) and any(name in streams for name in node.inputs):
            streams.update(node.outputs)
            if joins:
                adds.add(node.name)
    return frozenset(adds)


def _is_depthwise(view: GraphView, node: NodeView) -> bool:
    """Whether `node` is a conv of one channel a group."""
    known = view.tensors.get(node.inputs[1]) if node.op == "Conv" else None
    shape = known.shape if known is not None else None
    return shape is not None and len(shape) > 1 and shape[0] not in (1, None) and shape[1] == 1


def _centred(view: GraphView, node: NodeView) -> str | None:
    """The tensor that `node` takes its own mean, or the mean of its own square, from: a norm in parts, as opsets before
    17 have it (x - ReduceMean(x)), and RMS norm (ReduceMean(x * x))."""
    if node.op == "Sub" and len(node.inputs) == 2:  # torch's view knows no numbers
        mean = view.producers.get(node.inputs[1])
        return node.inputs[0] if _is_mean(mean) and mean.inputs[0] == node.inputs[0] else None
    if _is_mean(node):
        square = view.producers.get(node.inputs[0])
        if square is None or square.op not in ("Pow", "Mul"):
            return None
        return square.inputs[0] if square.op == "Pow" or square.inputs[0] == square.inputs[1] else None
    return None


def _is_mean(node: NodeView | None) -> TypeGuard[NodeView]:
    return node is not None and node.op == "ReduceMean"
