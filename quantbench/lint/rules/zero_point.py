"""Zero points and scales that TensorRT does not take: it knows symmetric INT8 with positive, finite scales only."""

from collections.abc import Iterator

import numpy as np

from quantbench.lint.finding import Finding
from quantbench.lint.index import DEQUANTIZE, QUANTIZE, Index

RULE = "not-symmetric-int8"


def find(index: Index) -> Iterator[Finding]:
    """One finding for each Q (or DQ of constants) with a zero point, UINT8 levels, or a scale that is no scale."""
    for node in index.nodes(QUANTIZE, DEQUANTIZE):
        if node.op_type == DEQUANTIZE and node.input[0] not in index.initializers:
            continue
        zero, scale = index.zero_point(node), index.scale(node)
        if scale is not None and (not np.isfinite(scale).all() or (scale <= 0).any()):
            yield Finding(RULE, node.name, 0, "a scale that is zero, negative or not finite", "calibrate again")
        elif scale is not None and scale.ndim == 1 and scale.size > 1 and not index.is_weight(node.input[0]):
            yield Finding(RULE, node.name, 0, "one scale a channel on an activation", "calibrate per tensor")
        elif zero is not None and zero.dtype == np.uint8:
            yield Finding(RULE, node.name, 0, "UINT8 levels, which TensorRT refuses",
                          "quantize symmetrically to INT8 ('quantbench ptq')")  # fmt: skip
        elif zero is not None and zero.any() and zero.dtype == np.int8:
            yield Finding(RULE, node.name, 0, "a zero point that is not zero, which TensorRT refuses",
                          "quantize symmetrically ('quantbench ptq')")  # fmt: skip
