"""Leave the head in float: the last weighted ops before each output, and with them softmax and box decoding.

The head of a detector or segmenter costs little and its error lands on the result undamped: ultralytics keeps the
output convs and the DFL in float in QAT and PTQ (pull requests 26171 and 26220). DFL in INT8 costs 1.8 points of mAP
on yolov8n-scenes.

A classifier's last layer is no such head: a Gemm behind a global average pooling, with many classes. Its INT8 input
lets the pooling and the layer before it write INT8, and its weights, often the largest of the network, are read as
INT8. Measured on EfficientNet-Lite0: 0.2 dB, agreement as before; on 2,000 labelled pictures, two networks: top-1 as
before (docs/placement-compared.md). ultralytics leaves it in INT8 too (26220).
"""

from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import AVERAGES, WEIGHTED, is_mover, out_channels, weight_index
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.rules.tiny import is_tiny


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Keep in float every weighted op from which an output is reached without meeting another one, but classifiers.

    What the user keeps in float is the head where it stands; a tiny conv (a DFL's, say) is looked through. A network
    whose only weighted ops would be its head (one layer) is quantized all the same.
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
        if node.op in WEIGHTED and not is_tiny(view, node, options):
            if node.name not in draft.kept_float and not is_classifier(view, node, options.tiny_channels):
                heads[node.name] = None
            continue
        queue.extend(name for name in node.inputs if name)
    if len(heads) >= len(weighted):
        return
    for name in heads:
        draft.kept_float.setdefault(name, "head: last weighted op before an output")


def is_classifier(view: GraphView, node: NodeView, fewest: int) -> bool:
    """Whether `node` is a Gemm or MatMul with at least `fewest` outputs that reads an average over all positions.

    Between the two only data movement; a few outputs are as likely a box, a pose or a depth.
    """
    index = weight_index(view, node)
    channels = out_channels(view, node) if node.op in ("Gemm", "MatMul") else None
    if index is None or channels is None or channels < fewest:
        return False
    maker = view.producers.get(node.inputs[1 - index])
    while maker is not None and is_mover(maker):
        maker = view.producers.get(maker.inputs[0])
    if maker is None or maker.op not in AVERAGES:
        return False
    pooled = view.tensors.get(maker.outputs[0])
    shape = pooled.shape if pooled is not None else None
    source = view.tensors.get(maker.inputs[0])
    spatial = source is None or source.shape is None or len(source.shape) == 4
    return spatial and (shape is None or all(d == 1 for d in shape[2:]))
