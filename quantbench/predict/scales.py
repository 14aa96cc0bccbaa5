"""Keys of the scales in an ONNX model: equal values give equal keys, whatever the initializers are called."""

from collections.abc import Hashable

import numpy as np
import onnx
from onnx import numpy_helper

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE


def scales_of(model: onnx.ModelProto) -> dict[str, Hashable]:
    """Q or DQ node to (scale bytes, zero-point bytes, zero-point dtype). Scales that are not constants are left out."""
    wanted = {
        name for node in model.graph.node if node.op_type in (QUANTIZE, DEQUANTIZE) for name in node.input[1:] if name
    }
    values = {t.name: _bytes(numpy_helper.to_array(t)) for t in model.graph.initializer if t.name in wanted}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in wanted:
            for attribute in node.attribute:
                if attribute.name == "value":
                    values[node.output[0]] = _bytes(numpy_helper.to_array(attribute.t))
    keys: dict[str, Hashable] = {}
    for node in model.graph.node:
        if node.op_type in (QUANTIZE, DEQUANTIZE) and node.input[1] in values:
            zero = node.input[2] if len(node.input) > 2 else ""
            # An absent zero point is zero of UINT8 by the standard; TensorRT treats it as INT8, so no type is noted.
            keys[node.name] = (values[node.input[1]], values.get(zero, ()))
    return keys


def _bytes(array: np.ndarray) -> Hashable:
    if array.dtype.kind in "iu" and not array.any():
        return ()
    return (str(array.dtype), array.tobytes())
