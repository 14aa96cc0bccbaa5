"""Quantize the input of an average pooling whose producer can then write INT8.

Source: NVIDIA, "Accelerating quantized networks with the NVIDIA QAT toolkit": a ResNet with a quantized
global-average-pool input gained more still; TensorRT's pass is QuantizeSingleInputNodes.
"""

from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import AVERAGES
from quantbench.qdq.options import PlacementOptions

RULE = "pooling"


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Add a site at each spatial average of an activation of rank 4 that comes after a quantized op."""
    if not options.pooling:
        return
    quantized = {node for node, _ in draft.weights}
    after: set[str] = set()
    for node in view.nodes:
        if node.name in quantized or any(name in after for name in node.inputs):
            after.update(node.outputs)
        if node.op not in AVERAGES or node.name in draft.kept_float or node.inputs[0] not in after:
            continue
        shape = view.tensors[node.inputs[0]].shape if node.inputs[0] in view.tensors else None
        if shape is None or len(shape) == 4:
            draft.quantize(node, 0, RULE)
