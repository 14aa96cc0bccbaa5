"""Re-encode a symmetric INT8 Q/DQ model for onnxruntime's CPU kernels: activations as U8 with zero point 128.

The same scale and a zero point moved by 128 give the same real numbers, q_u8 = q_s8 + 128, so nothing changes but the
speed: onnxruntime has fast U8S8 kernels and slow S8S8 ones on x86 (measured: scripts/bench_latency.py). Weights are
stored as INT8 behind a DQ alone.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantbench.graph.ops import QDQ_AXIS
from quantbench.graph.surgery import edited, values_of
from quantbench.qdq.bias_range import raise_weight_scales
from quantbench.qdq.weights import quantize_weight

_OFFSET = 128


def to_u8_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model`: every Q/DQ on an activation is UINT8 with zero point 128, every constant weight INT8.

    Q/DQ whose zero point is already UINT8, or that has no zero point constant, is left as it is. Weight scales are
    raised where a bias would not fit the INT32 that onnxruntime stores it in.
    """
    return edited(model, reencode)


def reencode(graph: gs.Graph) -> None:
    """`to_u8_activations`, in place."""
    raise_weight_scales(graph)
    for node in list(graph.nodes):
        if node.op == "QuantizeLinear" and isinstance(node.inputs[0], gs.Constant):
            _store_weight(node)
        elif node.op == "QuantizeLinear" and _is_s8(node):
            zero = node.inputs[2]
            node.inputs[2] = _shifted(zero)
            node.outputs[0].dtype = np.uint8
            for reader in node.outputs[0].outputs:
                if reader.op == "DequantizeLinear":
                    reader.inputs[2] = node.inputs[2]


def with_int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the Q/DQ `model` whose constant weights are stored as INT8 behind a DQ alone."""
    return edited(model, _store_weights)


def _store_weights(graph: gs.Graph) -> None:
    for node in list(graph.nodes):
        if node.op == "QuantizeLinear" and isinstance(node.inputs[0], gs.Constant):
            _store_weight(node)


def _store_weight(node: gs.Node) -> None:
    """Take the Q `node` of a float constant out: its readers get the INT8 constant that it makes."""
    weight, scale = node.inputs[0], node.inputs[1].values
    axis = node.attrs.get("axis", QDQ_AXIS) if scale.ndim else None
    stored = gs.Constant(f"{node.outputs[0].name}_int8", quantize_weight(values_of(weight), scale, axis))
    for reader in list(node.outputs[0].outputs):
        reader.inputs[0] = stored
    node.outputs.clear()


def _is_s8(node: gs.Node) -> bool:
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    return isinstance(zero, gs.Constant) and zero.values.dtype == np.int8


def _shifted(zero: gs.Constant) -> gs.Constant:
    name = f"{zero.name}_u8"
    return gs.Constant(name, np.asarray(zero.values.astype(np.int16) + _OFFSET, np.uint8))
