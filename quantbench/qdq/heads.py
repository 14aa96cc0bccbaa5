"""The head of a network: the last weighted ops before its outputs; and the conv of a DFL, a part of decoding."""

from quantbench.graph.ops import WEIGHTED
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.ops import out_channels
from quantbench.qdq.reach import above, maker

_SHAPES = frozenset({"Shape", "Size"})


def heads(view: GraphView) -> frozenset[str]:
    """Names of the weighted ops behind which no other one comes, or which reach an output past no other one and no Add
    of two activations: through a skip connection each block of a residual backbone reaches the output, and is no head.
    A DFL's conv is looked through."""
    counted = {node.name for node in view.nodes if node.op in WEIGHTED and not is_dfl(view, node)}
    return frozenset(_without_successor(view, counted) | _written_straight(view, counted))


def is_dfl(view: GraphView, node: NodeView) -> bool:
    """Whether `node` is the 1x1 conv to one channel that turns the distribution behind a softmax into a distance
    (distribution focal loss, arXiv:2006.04388): its weights are the distances, and it is a part of decoding."""
    if node.op != "Conv" or out_channels(view, node) != 1:
        return False
    weight = view.tensors[node.inputs[1]].shape
    source = maker(view, node.inputs[0])
    return weight is not None and set(weight[2:]) <= {1} and source is not None and source.op == "Softmax"


def _without_successor(view: GraphView, counted: set[str]) -> set[str]:
    """Those of `counted` behind which none of `counted` comes. Shapes are no data."""
    followed: set[str] = set()
    for node in reversed(view.nodes):
        readers = (reader for out in node.outputs if out for reader, _ in view.readers(out))
        if any(r.op not in _SHAPES and (r.name in counted or r.name in followed) for r in readers):
            followed.add(node.name)
    return counted - followed


def _written_straight(view: GraphView, counted: set[str]) -> set[str]:
    """Those of `counted` from which an output is reached past no other of them and no Add of two activations."""

    def through(node: NodeView) -> bool:
        joins = node.op == "Add" and not any(view.is_constant(name) for name in node.inputs)
        return node.name not in counted and not joins

    return counted & {node.name for node in above(view, view.outputs, through)}
