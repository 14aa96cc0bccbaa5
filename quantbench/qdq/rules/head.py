"""Leave the head in float: the last weighted ops before each output, and with them softmax and box decoding.

The head of a detector or segmenter costs little and its error lands on the result undamped: ultralytics keeps the
output convs and the DFL in float in QAT and PTQ (pull requests 26171 and 26220).

A classifier's last layer is no such head: a Gemm behind a global average pooling, with many classes. Its INT8 input
lets the pooling and the layer before it write INT8, and its weights, often the largest of the network, are read as
INT8. Measured on EfficientNet-Lite0: 0.2 dB, agreement as before; on 2,000 labelled pictures, two networks: top-1 as
before (docs/placement-compared.md). ultralytics leaves it in INT8 too (26220).

Rules:
1. the last weighted op before an output stays float
2. so does one that reaches an output past no other one and no Add of two activations
3. a classifier's Gemm behind a global average does not

Before and after:
    conv ==> box conv --> output      conv --> box conv --> output
"""

from quantbench.graph.ops import AVERAGES, MATRIX, WEIGHTED
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.heads import heads
from quantbench.qdq.ops import out_channels, weight_index
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.reach import maker


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Keep the head's weighted ops in float, but for a classifier's.

    What the user keeps in float is the head where it stands. A network whose only weighted ops would be its head (one
    layer) is quantized all the same.
    """
    if not options.head_float or options.for_onnxruntime:
        return
    last = heads(view)
    weighted = [node for node in view.nodes if node.op in WEIGHTED and node.name not in draft.kept_float]
    chosen = [
        node.name for node in weighted if node.name in last and not is_classifier(view, node, options.tiny_channels)
    ]
    if len(chosen) >= len(weighted):
        return
    for name in chosen:
        draft.kept_float.setdefault(name, "head: last weighted op before an output")


def is_classifier(view: GraphView, node: NodeView, fewest: int) -> bool:
    """Whether `node` is a Gemm or MatMul with at least `fewest` outputs that reads an average over all positions.

    Between the two only data movement; a few outputs are as likely a box, a pose or a depth.
    """
    index = weight_index(view, node)
    channels = out_channels(view, node) if node.op in MATRIX else None
    if index is None or channels is None or channels < fewest:
        return False
    pool = maker(view, node.inputs[1 - index])
    if pool is None or pool.op not in AVERAGES:
        return False
    pooled = view.tensors.get(pool.outputs[0])
    shape = pooled.shape if pooled is not None else None
    source = view.tensors.get(pool.inputs[0])
    spatial = source is None or source.shape is None or len(source.shape) == 4
    return spatial and (shape is None or all(d == 1 for d in shape[2:]))
