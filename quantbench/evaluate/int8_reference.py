"""Our own reading of a Q/DQ model: integers where an INT8 engine has integers, floats elsewhere; slow and plain.

A Conv, ConvTranspose, Gemm or MatMul whose two operands come of DQs, the first with one scale and the second with one
or one an output channel, sums int8 products and an int32 bias exactly; the sum times the scales is the float result.
Everything else is computed in float: Q as round-half-even(x / scale) + zero point, saturated, DQ as (q - zero point) *
scale (ONNX operator specifications), other operators by onnx's reference evaluator. So it shares no kernel with
onnxruntime, and tells a fault of an engine from one of a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quantbench.errors import QuantbenchError
from quantbench.evaluate.int8_arithmetic import conv, conv_transpose, same_pads
from quantbench.graph.ops import CONVS, DEQUANTIZE, QUANTIZE, WEIGHTED
from quantbench.graph.order import order_of
from quantbench.graph.subgraphs import bodies

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator

Values = NDArray[Any]
_INT32 = 1 << 31


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """What a DQ makes: integers `values` as stored, float32 `scale` and `zero` point, one or one an index of `axis`."""

    values: Values
    scale: NDArray[np.float32]
    zero: Values
    axis: int

    def centred(self) -> NDArray[np.float64]:
        """Integers with the zero point taken off."""
        return self.values.astype(np.float64) - _along(self.zero, self.values.ndim, self.axis)

    def real(self) -> NDArray[np.float32]:
        """What the integers stand for."""
        scale = _along(self.scale, self.values.ndim, self.axis)
        return self.centred().astype(np.float32) * scale.astype(np.float32)


class Int8Reference:
    """A Q/DQ `model` that can be run. `quantized`: names of the tensors that a Q writes, weights apart, in order.

    Raises QuantbenchError for what it does not read: subgraphs, blocks of scales, an operator that is not ONNX's.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        nodes = list(model.graph.node)
        self._nodes = [nodes[position] for position in order_of(nodes)]
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._outputs = [value.name for value in model.graph.output]
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._evaluators: dict[int, ReferenceEvaluator] = {}
        known = set(self._constants)
        self.quantized: list[str] = []
        for node in self._nodes:
            if any(True for _ in bodies(node)):
                raise QuantbenchError(f"node {node.name or node.op_type} has a body, which the reference does not run")
            if all(name in known for name in node.input if name):
                known.update(node.output)
            elif node.op_type == QUANTIZE:
                self.quantized.append(node.output[0])

    def run(
        self, feed: Mapping[str, Values], given: Mapping[str, Values] | None = None
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        """The integers of each of `quantized`, and the model's outputs, for inputs `feed`.

        `given`: integers that an engine has of such tensors. What comes after then reads these in place of ours, so
        that each is judged by itself.
        """
        values: dict[str, Values | Quantized] = {**self._constants, **feed}
        found: dict[str, Values] = {}
        wanted = set(self.quantized)
        left: dict[str, int] = dict.fromkeys(self._outputs, 1 << 30)
        for node in self._nodes:
            for name in node.input:
                left[name] = left.get(name, 0) + 1
        for index, node in enumerate(self._nodes):
            results = self._computed(index, node, [values[name] if name else None for name in node.input])
            for name, result in zip(node.output, results, strict=False):
                values[name] = result
                if name in wanted:
                    assert not isinstance(result, Quantized)
                    found[name] = result
                    values[name] = given[name] if given is not None and name in given else result
            for name in node.input:
                left[name] -= 1
                if name and not left[name]:
                    values.pop(name, None)
        return found, {name: _real(values[name]) for name in self._outputs}

    def _computed(self, index: int, node: NodeProto, inputs: list[Any]) -> list[Values | Quantized]:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            if attributes.get("block_size"):
                raise QuantbenchError(f"node {node.name} has a scale a block, which the reference does not read")
            return [_quantized(inputs, attributes) if node.op_type == QUANTIZE else _dequantized(inputs, attributes)]
        if node.op_type in WEIGHTED:
            return [_weighted(node.op_type, inputs, attributes)]
        if index not in self._evaluators:
            self._evaluators[index] = self._evaluator(node)
        feed = {name: _real(value) for name, value in zip(node.input, inputs, strict=True) if name}
        return [np.asarray(result) for result in self._evaluators[index].run(None, feed)]

    def _evaluator(self, node: NodeProto) -> "ReferenceEvaluator":
        read, written = ([onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name]
                         for names in (node.input, node.output))  # fmt: skip
        graph = helper.make_graph([node], "node", read, written)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        from onnx.reference import ReferenceEvaluator  # seldom needed, and slow to import

        try:
            return ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets))
        except (NotImplementedError, ValueError, RuntimeError, KeyError) as error:
            raise QuantbenchError(f"node {node.name}: the reference does not know {node.op_type}") from error


def _quantized(inputs: list[Any], attributes: Mapping[str, Any]) -> Values:
    x, scale = _real(inputs[0]), np.asarray(inputs[1], np.float32)
    zero = inputs[2] if len(inputs) > 2 and inputs[2] is not None else None
    dtype = zero.dtype if zero is not None else np.dtype(_DTYPES[attributes.get("output_dtype", 0)])
    bounds = np.iinfo(dtype)
    axis = attributes.get("axis", 1)
    steps = np.rint(x / _along(scale, x.ndim, axis).astype(np.float32)).astype(np.float64)
    if zero is not None:
        steps = steps + _along(zero, x.ndim, axis)
    return np.clip(steps, bounds.min, bounds.max).astype(dtype)


_DTYPES = {0: np.uint8, TensorProto.UINT8: np.uint8, TensorProto.INT8: np.int8, TensorProto.INT16: np.int16,
           TensorProto.UINT16: np.uint16}  # fmt: skip


def _dequantized(inputs: list[Any], attributes: Mapping[str, Any]) -> Quantized:
    values = inputs[0]
    zero = inputs[2] if len(inputs) > 2 and inputs[2] is not None else np.zeros((), values.dtype)
    return Quantized(values, np.asarray(inputs[1], np.float32), zero, attributes.get("axis", 1))


def _weighted(op: str, inputs: list[Any], attributes: Mapping[str, Any]) -> NDArray[np.float32]:
    """Exact sums of integers where both operands are quantized so that an engine can; else in double precision."""
    x, w, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    rank = (w.values if isinstance(w, Quantized) else w).ndim
    axis = _output_axis(op, attributes, rank)
    scale = _scale(x, w, axis, rank)
    if scale is None:
        found = _product(op, _real(x).astype(np.float64), _real(w).astype(np.float64), attributes)
        return (found if bias is None else found + _beside(op, _real(bias), found.ndim, attributes)).astype(np.float32)
    sums = _product(op, x.centred(), w.centred(), attributes)
    if bias is not None:
        # An integer on the grid of the sums, as kernels add it.
        beta = attributes.get("beta", 1.0) / attributes.get("alpha", 1.0) if op == "Gemm" else 1.0
        grid = np.rint(_exact(bias) * beta / scale)
        sums = sums + _beside(op, np.clip(grid, -_INT32, _INT32 - 1), sums.ndim, {})
    if np.abs(sums).max(initial=0) >= _INT32:
        raise QuantbenchError(f"a sum of {op} does not fit int32")
    shown = scale.reshape(-1, *[1] * (rank - 2)) if op in CONVS and scale.ndim else scale
    factor = attributes.get("alpha", 1.0) if op == "Gemm" else 1.0
    return np.asarray(sums * (shown * factor), np.float32)


def _scale(x: Any, w: Any, axis: int, rank: int) -> NDArray[np.float64] | None:
    """Scale of the sums, [] or [output channels], None where the operands are not quantized so."""
    if not isinstance(x, Quantized) or not isinstance(w, Quantized) or x.scale.size != 1:
        return None
    if w.scale.size != 1 and w.axis % rank != axis:
        return None
    weight = w.scale.reshape(()) if w.scale.size == 1 else w.scale
    return np.asarray(x.scale.reshape(()).astype(np.float64) * weight.astype(np.float64))


def _output_axis(op: str, attributes: Mapping[str, Any], rank: int) -> int:
    if op == "Conv":
        return 0
    if op == "ConvTranspose":
        return 1 if attributes.get("group", 1) == 1 else -1  # an index of the weight's is no channel of its own
    if op == "Gemm":
        return 0 if attributes.get("transB") else 1
    return rank - 1


def _product(op: str, x: Values, w: Values, attributes: Mapping[str, Any]) -> NDArray[np.float64]:
    if op == "MatMul":
        return np.asarray(x @ w)
    if op == "Gemm":
        return np.asarray((x.T if attributes.get("transA") else x) @ (w.T if attributes.get("transB") else w))
    rank = w.ndim - 2
    strides, dilations = (list(attributes.get(name) or [1] * rank) for name in ("strides", "dilations"))
    pads, group = list(attributes.get("pads") or [0] * (2 * rank)), attributes.get("group", 1)
    auto = attributes.get("auto_pad", b"NOTSET")
    if op == "Conv":
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            pads = same_pads(x.shape[2:], w.shape[2:], strides, dilations, upper=auto == b"SAME_UPPER")
        return conv(x, w, strides=strides, pads=pads, dilations=dilations, group=group)
    if auto not in (b"NOTSET", b"VALID") or attributes.get("output_shape"):
        raise QuantbenchError("the reference does not run a ConvTranspose with auto_pad or output_shape")
    more = list(attributes.get("output_padding") or [0] * rank)
    return conv_transpose(
        x, w, strides=strides, pads=pads, dilations=dilations, group=group, output_padding=more
    )  # fmt: skip


def _beside(op: str, bias: Values, rank: int, attributes: Mapping[str, Any]) -> Values:
    """A bias so shaped that it adds to a result of `rank` axes."""
    if op in CONVS:
        return np.asarray(bias).reshape(-1, *[1] * (rank - 2))
    return np.asarray(bias * attributes.get("beta", 1.0))


def _along(values: Values, rank: int, axis: int) -> Values:
    """`values`, one or one an index of `axis`, so shaped that they go with an array of `rank` axes."""
    array = np.asarray(values)
    if array.size == 1:
        return array.reshape(())
    shape = [1] * rank
    shape[axis % rank] = array.size
    return array.reshape(shape)


def _exact(value: Any) -> NDArray[np.float64]:
    """In double precision, for integers of 32 bits are no float32."""
    if isinstance(value, Quantized):
        return value.centred() * _along(value.scale, value.values.ndim, value.axis).astype(np.float64)
    return np.asarray(value, np.float64)


def _real(value: Any) -> Values:
    return value.real() if isinstance(value, Quantized) else np.asarray(value)
