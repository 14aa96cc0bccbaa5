"""What lies above and below a tensor: whether quantized layers feed it, whether all that reads it takes INT8."""

from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import CONVS, is_mover

# Between a tensor and the site behind it: INT8 goes through movers and Concats as it is, an INT8 Add takes the Q
# behind its Relu, and an Add of two activations is quantized with what reads it.
_PASSED = frozenset({"Concat", "Relu", "Add"})


def made_quantized(view: GraphView, draft: Draft, tensor: str) -> bool:
    """Whether the nearest weighted ops above `tensor` include one that is quantized."""
    quantized = {node for node, _ in draft.weights}
    seen: set[str] = set()
    queue = [tensor]
    while queue:
        node = view.producers.get(queue.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.name in quantized:
            return True
        if node.op not in CONVS:
            queue.extend(name for name in node.inputs if name)
    return False


def read_quantized(view: GraphView, draft: Draft, tensor: str, besides: str = "") -> bool:
    """Whether `tensor` is read, and by nothing (`besides` a node of this name) that wants it in float, as far as
    `draft` says by now."""
    known: dict[str, bool] = {}

    def takes(node: NodeView, index: int) -> bool:
        if node.name == besides or (node.name, index) in draft.activations:
            return True
        if node.name in draft.kept_float or not (node.op in _PASSED or is_mover(node)):
            return False
        if node.op == "Add" and any(view.is_constant(name) for name in node.inputs):
            return False
        return all(quantized(out) for out in node.outputs if out)

    def quantized(name: str) -> bool:
        if name not in known:
            readers = view.readers(name)
            known[name] = bool(readers) and name not in view.outputs and all(takes(n, i) for n, i in readers)
        return known[name]

    return quantized(tensor)
