"""Quantize the residual input of an Add that closes a skip connection; leave the conv branch to fuse with the Add.

Without it the Add stays float and the trailing Q cannot fuse into the conv. Source: NVIDIA, "Achieving FP32 accuracy
for INT8 inference using quantization aware training" and pytorch-quantization's ResNet example; on an A100 the
ResNet engine went from 1.10 to 0.73 ms (tests/data/artefacts/json/trex_pt_*).
"""

from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import CONVS
from quantbench.qdq.options import PlacementOptions

RULE = "residual"


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Add one site for each Add of two activations that share an ancestor and pass a quantized conv on the way."""
    if not options.residual:
        return
    position = {node.name: i for i, node in enumerate(view.nodes)}
    for node in view.nodes:
        if node.op != "Add" or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
            continue
        if node.name in draft.kept_float or any(view.is_constant(name) for name in node.inputs):
            continue
        index = residual_index(view, node, position)
        if index is not None and _passes_quantized_conv(view, draft, node.inputs[1 - index]):
            draft.quantize(node, index, RULE)
            if options.add_both:
                draft.quantize(node, 1 - index, RULE)


def residual_index(view: GraphView, add: NodeView, position: dict[str, int]) -> int | None:
    """Which input of `add` (0 or 1) is the residual one; None where the two have no common ancestor.

    The branch with the longest path from the lowest common ancestor is the conv branch. Equal lengths: the branch
    that ends in a conv directly, else input 0, is the conv branch.
    """
    left, right = (_ancestors(view, name) for name in add.inputs)
    common = left & right
    if not common:
        return None
    lowest = max(common, key=lambda tensor: position.get(getattr(view.producers.get(tensor), "name", ""), -1))
    lengths = [_longest(view, lowest, name, position) for name in add.inputs]
    if lengths[0] != lengths[1]:
        return 0 if lengths[0] < lengths[1] else 1
    ends = [getattr(view.producers.get(name), "op", "") in CONVS for name in add.inputs]
    return 0 if ends[1] and not ends[0] else 1


def _ancestors(view: GraphView, tensor: str) -> set[str]:
    """`tensor` and every activation that it depends on."""
    found = {tensor}
    queue = [tensor]
    while queue:
        node = view.producers.get(queue.pop())
        for name in node.inputs if node is not None else ():
            if name and name not in found and not view.is_constant(name):
                found.add(name)
                queue.append(name)
    return found


def _longest(view: GraphView, start: str, end: str, position: dict[str, int]) -> int:
    """Longest path from tensor `start` to tensor `end`, counted in nodes."""
    if start == end:
        return 0
    first = position.get(getattr(view.producers.get(start), "name", ""), -1)
    last = position[view.producers[end].name]
    length = {start: 0}
    for node in view.nodes[first + 1 : last + 1]:
        reached = [length[name] for name in node.inputs if name in length]
        if reached:
            for out in node.outputs:
                length[out] = max(reached) + 1
    return length.get(end, 0)


def _passes_quantized_conv(view: GraphView, draft: Draft, tensor: str) -> bool:
    """Whether the nearest weighted ops above `tensor` on its branch include one that is quantized."""
    seen: set[str] = set()
    queue = [tensor]
    while queue:
        node = view.producers.get(queue.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if any(site_node == node.name for site_node, _ in draft.weights):
            return True
        if node.op not in CONVS:
            queue.extend(name for name in node.inputs if name)
    return False
