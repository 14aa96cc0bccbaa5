"""The weighted layers of a Q/DQ model that are quantized on both sides, as bias correction and rounding see them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantbench.calibration.sums import Levels
from quantbench.graph.ops import QDQ_AXIS, WEIGHTED


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedLayer:
    """A layer: the node that multiplies, its float input and how that is quantized, its float weight as `stored` (there
    is no other copy), and the weight's scale ([channels] along `axis`, or [] where that is None)."""

    node: onnx.NodeProto
    source: str
    levels: Levels
    stored: onnx.TensorProto
    scale: NDArray[np.floating]
    axis: int | None

    @property
    def tensor(self) -> str:
        """Name of the weight."""
        return self.stored.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return tuple(self.stored.dims)

    @property
    def weight(self) -> NDArray[np.floating]:
        """The weight, made anew on each call."""
        return numpy_helper.to_array(self.stored)


def quantized_layers(model: onnx.ModelProto) -> Iterator[QuantizedLayer]:
    """Each Conv, ConvTranspose, Gemm and MatMul of `model` with float weights behind Q and DQ, whose input has one
    constant scale."""
    makers = {out: node for node in model.graph.node for out in node.output}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        quantizers = [_quantizer(makers, name) for name in node.input[:2]]
        activation, weight = quantizers if len(quantizers) == 2 else (None, None)
        if activation is None or weight is None or not {*weight.input[:2]} <= stored.keys():
            continue
        levels = _levels(activation, stored)
        if levels is None:
            continue
        scale = numpy_helper.to_array(stored[weight.input[1]])
        axis = next((item.i for item in weight.attribute if item.name == "axis"), QDQ_AXIS) if scale.ndim else None
        yield QuantizedLayer(node, activation.input[0], levels, stored[weight.input[0]], scale, axis)


def _quantizer(makers: Mapping[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    """The Q behind whose DQ stands the tensor `name`."""
    dequantize = makers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = makers.get(dequantize.input[0])
    return quantize if quantize is not None and quantize.op_type == "QuantizeLinear" else None


def _levels(quantize: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> Levels | None:
    """What a Q with one constant scale does; None where it is computed, or there is one a channel."""
    constants = [numpy_helper.to_array(stored[name]) for name in quantize.input[1:] if name in stored]
    if len(constants) != 2 or constants[0].size != 1:
        return None
    scale, zero = constants
    info = np.iinfo(zero.dtype)
    offset = int(zero.reshape(-1)[0])
    return Levels(float(scale.reshape(-1)[0]), info.min - offset, info.max - offset)
