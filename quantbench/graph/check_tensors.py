"""Stored tensors that are what they say: before anything computes with them, or believes their size."""

import math

import onnx
from onnx import TensorProto, numpy_helper

from quantbench.errors import QuantbenchError
from quantbench.graph.subgraphs import tensors_of
from quantbench.graph.surgery import bits_of


def check_tensors(graph: onnx.GraphProto, name: str) -> None:
    """Raise QuantbenchError for the first tensor of `graph` and its bodies whose dtype is none, whose dimensions are
    negative, or that holds another number of values than its dimensions say; `name` is what messages call the model.

    Nothing is allocated for a tensor that only claims to be large. External data must have been read.
    """
    for tensor in tensors_of(graph):
        fault = _fault(tensor)
        if fault:
            raise QuantbenchError(
                f"{name}: tensor {tensor.name or '(unnamed)'} {fault}; the file is damaged, export the model again"
            )


def _fault(tensor: TensorProto) -> str:
    if tensor.data_type == TensorProto.STRING:
        stored, wanted = len(tensor.string_data), math.prod(tensor.dims)
        return "" if stored == wanted else f"holds {stored} strings in place of {wanted}"
    try:
        bits = bits_of(tensor.data_type)
    except (KeyError, ValueError, TypeError):
        return f"has dtype {tensor.data_type}, which ONNX does not define"
    dims = list(tensor.dims)
    if any(dim < 0 for dim in dims):
        return f"has the dimensions {dims}"
    count = math.prod(dims)
    if tensor.HasField("raw_data"):
        wanted = -(-count * bits // 8)
        return "" if len(tensor.raw_data) == wanted else f"holds {len(tensor.raw_data)} bytes in place of {wanted}"
    stored = _stored(tensor)
    if count > 2 * stored + 1 and stored < count:
        return f"holds {stored} values in place of {count}"
    try:
        numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        return f"cannot be read: {str(error).splitlines()[0][:120] if str(error) else type(error).__name__}"
    return ""


def _stored(tensor: TensorProto) -> int:
    """Values in the typed fields; those of 4 bits are packed in twos."""
    return max(
        len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data), len(tensor.double_data),
        len(tensor.uint64_data),
    )  # fmt: skip
