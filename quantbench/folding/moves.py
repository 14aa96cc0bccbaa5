"""Where the elements of a tensor go in a node that only moves them."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def moved(
    node: onnx.NodeProto,
    model: onnx.ModelProto,
    values: NDArray[np.int64],
    parameters: Sequence[NDArray[np.generic] | None],
) -> NDArray[np.int64] | None:
    """What `node` of `model` makes of `values` in place of its first input, its other inputs being the constants
    `parameters` (None: left out); None where ONNX's reference cannot tell."""
    from onnx.reference import ReferenceEvaluator  # most networks have no such node

    graph = helper.make_graph(
        [node], "moves", [helper.make_tensor_value_info(node.input[0], onnx.TensorProto.INT64, list(values.shape))],
        [helper.make_empty_tensor_value_info(node.output[0])],
        [numpy_helper.from_array(np.asarray(value), name)
         for name, value in zip(node.input[1:], parameters, strict=True) if value is not None],
    )  # fmt: skip
    try:
        small = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        (found,) = ReferenceEvaluator(small).run(None, {node.input[0]: np.ascontiguousarray(values)})
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
        return None
    return np.asarray(found, np.int64)
