"""What lies above and below a tensor: what makes it, whether quantized layers feed it, whether all readers are INT8."""

from collections.abc import Callable, Iterable, Iterator

from quantbench.graph.ops import CONVS
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import is_mover, passes_int8

# Between a tensor and the site behind it: INT8 goes through movers and Concats as it is, and an INT8 layer takes the Q
# behind its Relu.
_PASSED = frozenset({"Concat", "Relu", "Add"})


def above(view: GraphView, tensors: Iterable[str], through: Callable[[NodeView], bool]) -> Iterator[NodeView]:
    """Each node above `tensors` once; what is above a node only where `through` says so."""
    seen: set[str] = set()
    queue = list(tensors)
    while queue:
        node = view.producers.get(queue.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        yield node
        if through(node):
            queue.extend(name for name in node.inputs if name)


def maker(view: GraphView, tensor: str) -> NodeView | None:
    """What computes the values of `tensor`: not what only moves them. None for an input of the network."""
    node = view.producers.get(tensor)
    while node is not None and is_mover(node):
        node = view.producers.get(node.inputs[0])
    return node


def made_quantized(view: GraphView, draft: Draft, tensor: str) -> bool:
    """Whether the nearest weighted ops above `tensor` include one that is quantized."""
    quantized = {node for node, _ in draft.weights}
    return any(node.name in quantized for node in above(view, [tensor], lambda node: node.op not in CONVS))


def read_quantized(view: GraphView, draft: Draft, tensor: str, besides: str = "") -> bool:
    """Whether `tensor` is read in INT8, and by nothing (`besides` a node of this name) that wants it in float, as far
    as `draft` says by now. A node that is quantized along is no reason to quantize anything, so it counts as float.

    An Add of two activations that may yet stay float does not count against it: in a chain of skip connections one
    float Add costs one Q, not those of all Adds before it.
    """
    known: dict[str, bool] = {}

    def takes(node: NodeView, index: int) -> bool | None:
        if node.name == besides:
            return True
        if (node.name, index) in draft.activations:
            return node.name not in draft.along
        if node.name in draft.kept_float or not (node.op in _PASSED or passes_int8(node)):
            return False
        if node.op == "Add" and any(view.is_constant(name) for name in node.inputs):
            return False
        passed = all(known[out] for out in node.outputs if out)
        return None if node.op == "Add" and not passed else passed

    # Backwards, so that what a node writes is known before what it reads; without recursion, however deep the network.
    tensors = [out for node in reversed(view.nodes) for out in node.outputs] + [tensor]
    for name in tensors:
        readers = [takes(node, index) for node, index in view.readers(name)]
        known[name] = True in readers and False not in readers and name not in view.outputs
        if name == tensor:
            break
    return known[tensor]
