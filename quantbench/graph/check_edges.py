"""What nodes read: tensors that something writes, and constants that their operator can take."""

import functools
import math
from collections.abc import Iterable, Mapping

import onnx
from onnx import NodeProto, TensorProto

from quantbench.errors import QuantbenchError
from quantbench.graph.standard import DOMAINS, known, schema_of
from quantbench.graph.subgraphs import bodies
from quantbench.graph.surgery import default_opset

# Fewest and most dimensions of an input by operator and place, where the standard's text says so and its types do not.
_RANKS = {
    ("Conv", 1): (3, 9), ("Conv", 2): (1, 1), ("ConvTranspose", 1): (3, 9), ("ConvTranspose", 2): (1, 1),
    ("Gemm", 0): (2, 2), ("Gemm", 1): (2, 2), ("MatMul", 0): (1, 9), ("MatMul", 1): (1, 9),
    **{("BatchNormalization", place): (1, 1) for place in range(1, 5)},
}  # fmt: skip
# Inputs of one value, whatever its dimensions: no runtime takes another number.
_SINGLE = {("Clip", 1), ("Clip", 2), ("TopK", 1)}
# Kinds of dtypes: another precision is for the compiler to refuse, another kind is no model. Those of 8 bits and fewer
# that are no integers stand in none: they came to the standard later than to compilers.
_KINDS = {
    "strings": {TensorProto.STRING},
    "booleans": {TensorProto.BOOL},
    "floats": {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16},
    "integers": {TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8,
                 TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.INT4, TensorProto.UINT4},
    "complex numbers": {TensorProto.COMPLEX64, TensorProto.COMPLEX128},
}  # fmt: skip
_KIND_OF: dict[int, str] = {dtype: kind for kind, dtypes in _KINDS.items() for dtype in dtypes}


def check_edges(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError for the first node, in the graph or a body, that reads a tensor which nothing writes, or a
    constant of a kind (strings, booleans, floats, integers) or size that its operator does not take.

    To be called when `check_nodes` found nothing. `name`: what messages call the model.
    """
    _check(model.graph, default_opset(model), name, frozenset(), {})


def _check(
    graph: onnx.GraphProto, opset: int, name: str, outside: frozenset[str], constants: Mapping[str, TensorProto]
) -> None:
    known_here = outside | _written(graph)
    constants = {**constants, **{tensor.name: tensor for tensor in graph.initializer}}
    for index, node in enumerate(graph.node):
        fault = _fault(node, opset, known_here, constants)
        if fault:
            shown = node.name or f"number {index}"
            raise QuantbenchError(f"{name}: node {shown} {fault}; the file is damaged, export the model again")
        for body in bodies(node):
            _check(body, opset, name, known_here, constants)


def _written(graph: onnx.GraphProto) -> frozenset[str]:
    stored: Iterable[str] = (tensor.name for tensor in graph.initializer)
    sparse = (tensor.values.name for tensor in graph.sparse_initializer)
    made = (out for node in graph.node for out in node.output)
    return frozenset((*stored, *sparse, *made, *(value.name for value in graph.input), ""))


def _fault(node: NodeProto, opset: int, written: frozenset[str], constants: Mapping[str, TensorProto]) -> str:
    for place, tensor in enumerate(node.input):
        if tensor not in written:
            return f"({node.op_type}) reads {tensor!r}, which no node writes"
        constant = constants.get(tensor)
        if constant is None or node.domain not in DOMAINS or opset < 1 or not known(node.op_type, opset):
            continue
        kind = _KIND_OF.get(constant.data_type)
        if kind is not None and kind not in _kinds(node.op_type, opset, place):
            return f"({node.op_type}) cannot take {kind}, which its input {tensor!r} holds"
        fewest, most = _RANKS.get((node.op_type, place), (0, 1 << 30))
        if not fewest <= len(constant.dims) <= most:
            return f"({node.op_type}) cannot take {tensor!r}, of {len(constant.dims)} dimensions"
        if (node.op_type, place) in _SINGLE and math.prod(constant.dims) != 1:
            return f"({node.op_type}) cannot take {tensor!r}, of {math.prod(constant.dims)} values in place of one"
        if (node.op_type, place) == ("Split", 1) and math.prod(constant.dims) != len(node.output):
            return (
                f"(Split) has {len(node.output)} outputs, and {tensor!r} has {math.prod(constant.dims)} sizes for them"
            )
    return ""


@functools.cache
def _kinds(op: str, opset: int, place: int) -> frozenset[str]:
    """Kinds of the dtypes that the standard lets stand at an input; the last one may repeat."""
    inputs = schema_of(op, opset).inputs
    names = inputs[min(place, len(inputs) - 1)].types
    return frozenset(kind for dtype, kind in _KIND_OF.items() if f"tensor({_name_of(dtype)})" in names)


def _name_of(dtype: int) -> str:
    return str(TensorProto.DataType.Name(dtype)).lower()
