"""Quantize the input of an average pooling between quantized layers, so that it computes in INT8.

Its output carries a Q already, that of the layer behind it (NVIDIA, Developer Guide, "Q/DQ layer-placement
recommendations": "non-weighted layers that have INT8 inputs also require INT8 outputs"); TensorRT's pass is
QuantizeSingleInputNodes, which takes both (A100 engine resnet-qat-residual-qgap). A pooling that something reads in
float stays float: its DQ would be left over, a kernel of its own (A100 engine resnet-qat-residual,
DequantizeLinear_291). So does one whose input something else wants in float (squeeze and excite): the Q would be left
over.

Rules:
1. the input of an average between quantized layers gets Q/DQ
2. not where something reads the average, or its input, in float

Before and after:
    conv --> pool --> Q ==> conv      conv ==> pool ==> conv
"""

from quantbench.graph.ops import AVERAGES
from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.reach import read_quantized

RULE = "pooling"


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Add a site at each spatial average of an activation of rank 4 with quantized layers before and behind it."""
    if not options.pooling or options.for_onnxruntime:
        return
    quantized = {node for node, _ in draft.weights}
    after: set[str] = set()
    for node in view.nodes:
        if node.name in quantized or any(name in after for name in node.inputs):
            after.update(node.outputs)
        if node.op not in AVERAGES or node.name in draft.kept_float or node.inputs[0] not in after:
            continue
        shape = view.tensors[node.inputs[0]].shape if node.inputs[0] in view.tensors else None
        if shape is not None and len(shape) != 4:
            draft.refuse(node, RULE, f"it averages a tensor of {len(shape)} dimensions, no image")
        elif not read_quantized(view, draft, node.outputs[0]):
            draft.refuse(node, RULE, "what it writes is not read in INT8 by all its readers")
        elif not read_quantized(view, draft, node.inputs[0], besides=node.name):
            draft.refuse(node, RULE, "something else reads its input in float")
        else:
            draft.quantize(node, 0, RULE)
