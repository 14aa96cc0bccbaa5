"""Quantize all inputs of weighted ops: the activation per tensor, the weight per channel; never their outputs.

Because Q/DQ only ever stands at the input of such an op, it never comes between a conv and its batch norm or
activation, which TensorRT fuses (NVIDIA, Developer Guide, "Q/DQ layer-placement recommendations").

Rules:
1. the activation of a weighted op gets Q/DQ per tensor
2. its constant weight gets Q/DQ per output channel
3. a weight that is computed stays float
4. so does what computes from constants alone: the compiler does it once (the first self-attention of DETR's queries)

Before and after:
    x --> conv(w) --> relu            x --> Q/DQ ==> conv(w Q/DQ) + relu
"""

from quantbench.graph.ops import WEIGHTED
from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import weight_axis, weight_index
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.plan import WeightSite

RULE = "weighted"


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Add the sites of every weighted op that no earlier rule keeps in float."""
    for node in view.nodes:
        if node.op not in WEIGHTED or node.name in draft.kept_float:
            continue
        index = weight_index(view, node)
        if index is None:
            if node.op != "MatMul":  # those are the business of `attention`
                draft.kept_float[node.name] = f"weighted: {node.op} of two activations"
            continue
        if view.is_constant(node.inputs[1 - index]):
            draft.kept_float[node.name] = "weighted: computes from constants alone"
            continue
        weight = node.inputs[index]
        if weight in view.producers:
            draft.kept_float[node.name] = f"weighted: weight {weight} is computed, not stored"
            continue
        axis = weight_axis(view, node, index) if options.per_channel else None
        draft.weights[node.name, index] = WeightSite(weight, node.name, index, axis, RULE)
        draft.quantize(node, 1 - index, RULE)
