"""Quantize the input of an average pooling between quantized layers, so that it computes in INT8.

Its output carries a Q already, that of the layer behind it (NVIDIA, Developer Guide, "Q/DQ layer-placement
recommendations": "non-weighted layers that have INT8 inputs also require INT8 outputs"); TensorRT's pass is
QuantizeSingleInputNodes, which takes both (A100 engine resnet-qat-residual-qgap). A pooling that something reads in
float stays float: its DQ would be left over, a kernel of its own (A100 engine resnet-qat-residual,
DequantizeLinear_291). So does one whose input something else wants in float (squeeze and excite): the Q would be left
over.
"""

from quantbench.graph.ops import AVERAGES
from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.reach import read_quantized

RULE = "pooling"


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Add a site at each spatial average of an activation of rank 4 with quantized layers before and behind it."""
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
        if (shape is not None and len(shape) != 4) or not read_quantized(view, draft, node.outputs[0]):
            continue
        if read_quantized(view, draft, node.inputs[0], besides=node.name):
            draft.quantize(node, 0, RULE)
