"""A Q/DQ model for onnxruntime's float kernels: weights stored as the floats that their Q and DQ make.

Where every float tensor of a quantized network is wanted, as bias correction and the errors of layers want it, integer
kernels cannot be used: they leave no float behind. The same numbers then come fastest from float kernels with all their
fusions, the activations' Q and DQ between them and nothing to do for a weight (`create_session` with
`fuse_qdq=False`). Biases are not rounded to INT32 here, which moves a result by less than half a unit of s_x s_w.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantbench.graph.ops import QDQ_AXIS
from quantbench.graph.surgery import edited, values_of
from quantbench.qdq.weights import quantize_weight


def simulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of the Q/DQ `model` whose quantized weights (behind Q and DQ, or INT8 behind a DQ) are float constants."""
    return edited(model, _fold_weights)


def dequantized(stored: NDArray[np.generic], scale: NDArray[np.generic], axis: int | None) -> NDArray[np.floating]:
    """Integers times `scale` [channels] along `axis`, or [] (DequantizeLinear with zero point 0), in its dtype."""
    shape = [1] * stored.ndim
    if axis is not None:
        shape[axis] = -1
    values: NDArray[np.floating] = stored.astype(scale.dtype) * scale.reshape(shape)
    return values


def _fold_weights(graph: gs.Graph) -> None:
    for dequantize in [node for node in graph.nodes if node.op == "DequantizeLinear"]:
        values = weight_behind(dequantize)
        if values is None:
            continue
        output = dequantize.outputs[0]
        constant = gs.Constant(f"{output.name}_folded", values)
        for reader in list(output.outputs):
            reader.inputs = [constant if given is output else given for given in reader.inputs]


def weight_behind(dequantize: gs.Node) -> NDArray[np.floating] | None:
    """What a DQ makes of a constant, quantized before it or stored as INT8; None for anything else."""
    source, scale = dequantize.inputs[0], dequantize.inputs[1]
    if not isinstance(scale, gs.Constant) or (len(dequantize.inputs) > 2 and not _is_zero(dequantize.inputs[2])):
        return None
    axis = int(dequantize.attrs.get("axis", QDQ_AXIS)) if np.ndim(scale.values) else None
    if isinstance(source, gs.Constant):
        return dequantized(values_of(source), np.asarray(scale.values), axis)
    quantize = source.inputs[0] if source.inputs else None
    if quantize is None or quantize.op != "QuantizeLinear" or not isinstance(quantize.inputs[0], gs.Constant):
        return None
    stored = quantize_weight(values_of(quantize.inputs[0]), np.asarray(scale.values), axis)
    return dequantized(stored, np.asarray(scale.values), axis)


def _is_zero(zero: gs.Tensor) -> bool:
    return isinstance(zero, gs.Constant) and zero.values.dtype == np.int8 and not np.any(zero.values)
