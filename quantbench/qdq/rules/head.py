"""Leave the head in float: the last weighted ops before each output, and with them softmax and box decoding.

The head costs little and its error lands on the result undamped. Sources: ultralytics issue 26171 (head must stay
float), NVIDIA TensorRT-Model-Optimizer's default of skipping output layers.
"""

from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import WEIGHTED
from quantbench.qdq.options import PlacementOptions


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Keep in float every weighted op from which an output is reached without meeting another one.

    Ops that are kept float already (a DFL conv, say) are looked through. A network whose only weighted ops would be
    its head (one layer) is quantized all the same.
    """
    if not options.head_float:
        return
    weighted = [node for node in view.nodes if node.op in WEIGHTED and node.name not in draft.kept_float]
    heads: dict[str, None] = {}
    seen: set[str] = set()
    queue = list(view.outputs)
    while queue:
        tensor = queue.pop()
        node = view.producers.get(tensor)
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op in WEIGHTED and node.name not in draft.kept_float:
            heads[node.name] = None
            continue
        queue.extend(name for name in node.inputs if name)
    if len(heads) >= len(weighted):
        return
    for name in heads:
        draft.kept_float.setdefault(name, "head: last weighted op before an output")
