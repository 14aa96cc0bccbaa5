"""For onnxruntime: what scales or shifts the channels of a conv by constants goes into its weights and bias.

onnxruntime's optimizer does so with float weights; with weights behind a DQ it does not (1.32: a batch norm, or the
Add that Paddle writes a bias as, stays a float kernel between the conv and its Q, and the conv computes in float).
TensorRT does it itself, also with Q/DQ, so elsewhere the network stays as it came.

Rules:
1. a batch norm behind a conv that nothing else reads is folded into it (with `for_onnxruntime`)
2. so is an Add or Mul of a constant, one value or one a channel; identities between are dropped

Before and after:
    conv --> batch norm --> Add(b) --> relu       conv --> relu
"""

from quantbench.graph.ops import IDENTITIES
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.options import PlacementOptions


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Name what folds, from each conv down."""
    if not options.for_onnxruntime:
        return
    for conv in view.nodes:
        if conv.op == "Conv" and conv.name not in draft.kept_float and _is_own(view, conv):
            draft.folded.extend(_behind(view, draft, conv))


def _is_own(view: GraphView, conv: NodeView) -> bool:
    """Whether the weight and bias of `conv` are stored, and no other node reads the weight."""
    stored = [name for name in conv.inputs[1:3] if name]
    known = all(view.is_constant(name) and name not in view.producers for name in stored)
    return known and len(view.readers(conv.inputs[1])) == 1


def _behind(view: GraphView, draft: Draft, conv: NodeView) -> list[str]:
    found: list[str] = []
    tensor = conv.outputs[0]
    while len(view.readers(tensor)) == 1 and tensor not in view.outputs:
        node = view.readers(tensor)[0][0]
        if node.name in draft.kept_float or not _folds(view, conv, node, tensor):
            break
        found.append(node.name)
        tensor = node.outputs[0]
    # An identity alone at the end is none of ours.
    while found and view.producers[tensor].op in IDENTITIES:
        tensor = view.producers[tensor].inputs[0]
        found.pop()
    return found


def _folds(view: GraphView, conv: NodeView, node: NodeView, tensor: str) -> bool:
    if node.op in IDENTITIES:
        return len(node.outputs) == 1
    others = [name for name in node.inputs if name != tensor]
    if node.op == "BatchNormalization":
        return node.inputs[0] == tensor and len(node.outputs) == 1 and _all_stored(view, others)
    if node.op not in ("Add", "Mul") or len(others) != 1 or not _all_stored(view, others):
        return False
    weight, shape = view.tensors[conv.inputs[1]].shape, view.tensors[others[0]].shape
    if weight is None or shape is None or len(shape) > len(weight):
        return False
    whole = (*(1 for _ in range(len(weight) - len(shape))), *shape)
    return whole[1] in (1, weight[0]) and all(size == 1 for axis, size in enumerate(whole) if axis != 1)


def _all_stored(view: GraphView, names: list[str]) -> bool:
    return all(view.is_constant(name) and name not in view.producers for name in names)
