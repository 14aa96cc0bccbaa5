"""What TensorRT refuses of a Q or DQ: it takes symmetric INT8 with constant, positive, finite scales only."""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index

RULE = "not-symmetric-int8"
_PTQ = "quantize the float model symmetrically to INT8 ('quantbench ptq FLOAT.onnx')"


def find(index: Index) -> Iterator[Finding]:
    """One finding for each Q (or DQ of constants) with a zero point, levels of another type, or a scale that is none.

    INT32 constants are another rule's.
    """
    for node in index.nodes(QUANTIZE, DEQUANTIZE):
        if node.op_type == DEQUANTIZE and node.input[0] not in index.initializers:
            continue
        found = _trouble(index, node)
        if found is not None:
            yield Finding(RULE, node.name, 0, *found)


def _trouble(index: Index, node: NodeProto) -> tuple[str, str] | None:
    zero, scale = index.zero_point(node), index.scale(node)
    # Without a zero point ONNX means UINT8 and TensorRT takes INT8.
    levels = index.levels(node) or "INT8"
    if scale is None:
        if index.view.is_constant(node.input[1]):
            return "a scale that the network computes from constants", "fold constants before (onnxsim, polygraphy)"
        return (
            "a scale that the network computes, which TensorRT refuses",
            "calibrate the float model ('quantbench ptq FLOAT.onnx')",
        )
    if not np.isfinite(scale).all() or (scale <= 0).any():
        return "a scale that is zero, negative or not finite", "calibrate again"
    if scale.ndim == 1 and scale.size > 1 and not index.is_weight(node.input[0]):
        return "one scale a channel on an activation", "calibrate per tensor"
    if levels not in ("INT8", "INT32"):
        what = "which TensorRT refuses" if levels == "UINT8" else "of which neither prediction nor advice speaks"
        return f"{levels} levels, {what}", _PTQ
    if zero is not None and levels == "INT8" and zero.any():
        return "a zero point that is not zero, which TensorRT refuses", _PTQ
    return None
