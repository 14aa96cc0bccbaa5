"""A layer or RMS norm in parts that squares in the graph what the scales say is too large for FP16.

65504 is FP16's largest number, so that squares overflow from 256 on, and a norm of infinity is zero. TensorRT's parser
warns of it ("Running layernorm after self-attention with FP16 Reduce or Pow may cause overflow") and names the ways
out: FP32 for the two, or the fused operator of opset 17. A norm whose range no scale tells is left alone, for exporters
before opset 17 write all norms so.
"""

from collections.abc import Iterator

from quantbench.graph.ops import QUANTIZE
from quantbench.graph.view import GraphView, NodeView
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index
from quantbench.predict.with_qdq import without_qdq

RULE = "norm-overflow"
LARGEST_ROOT = 65504.0**0.5
_LEVELS = 127


def find(index: Index) -> Iterator[Finding]:
    """One finding for each square of a tensor, centred or not, whose Q has a range that FP16 cannot square."""
    view = without_qdq(index.view)
    ranges = {q.input[0]: _LEVELS * float(s.max()) for q in index.nodes(QUANTIZE) if (s := index.scale(q)) is not None}
    for node in view.nodes:
        source = squared(view, node)
        known = next((name for name in (source, _centred(view, source)) if name in ranges), None) if source else None
        if known is not None and ranges[known] > LARGEST_ROOT:
            yield Finding(RULE, node.name, 0, f"squares {known} in parts of a norm, which reaches {ranges[known]:.4g}: "
                          f"FP16 overflows from {LARGEST_ROOT:.0f} on",
                          "export at opset 17 or later (LayerNormalization), or keep the norm FP32 "
                          "(--layer-precision)")  # fmt: skip


def squared(view: GraphView, node: NodeView) -> str | None:
    """The tensor that `node` squares for a mean behind it; None where it does not."""
    if not any(reader.op == "ReduceMean" for out in node.outputs for reader, _ in view.readers(out)):
        return None
    if node.op == "Pow" or (node.op == "Mul" and node.inputs[0] == node.inputs[1]):
        return node.inputs[0]
    return None


def _centred(view: GraphView, tensor: str) -> str:
    """What `tensor` is the centred form of (x - mean of x), "" where it is none."""
    node = view.producers.get(tensor)
    mean = view.producers.get(node.inputs[1]) if node is not None and node.op == "Sub" else None
    centres = node is not None and mean is not None and mean.op == "ReduceMean" and mean.inputs[0] == node.inputs[0]
    return node.inputs[0] if node is not None and centres else ""
