"""Q/DQ at both inputs of a product of two activations that TensorRT computes in float all the same.

Its fused attention takes INT8 for some head sizes and lengths only (`qdq/rules/attention.py` has them, with the
source); elsewhere the Qs and DQs are kernels of their own, and their rounding stays.
"""

from collections.abc import Iterator

from quantbench.graph.ops import DEQUANTIZE
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index
from quantbench.predict.with_qdq import without_qdq
from quantbench.qdq.rules.attention import outside

RULE = "attention-envelope"


def find(index: Index) -> Iterator[Finding]:
    """One finding for each such MatMul, with what is outside of what TensorRT takes."""
    view = without_qdq(index.view)
    nodes = {node.name: node for node in view.nodes}
    for product in index.nodes("MatMul"):
        makers = [index.makers.get(name) for name in product.input]
        quantized = all(made is not None and made.op_type == DEQUANTIZE for made in makers)
        if not quantized or any(index.is_weight(name) for name in product.input):
            continue
        reason = outside(view, nodes[product.name])
        if reason:
            cost = sum(index.nbytes(name) for name in product.input)
            yield Finding(RULE, product.name, cost, f"Q/DQ at both inputs, but TensorRT multiplies in float: {reason}",
                          "leave both inputs float ('quantbench ptq' does)")  # fmt: skip
