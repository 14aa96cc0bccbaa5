"""A bias behind an INT32 DQ, as onnxruntime writes it: TensorRT takes INT8 and FP8 there, and refuses INT32."""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, numpy_helper

from quantbench.graph.ops import DEQUANTIZE
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index

RULE = "int32-bias"


def find(index: Index) -> Iterator[Finding]:
    """One finding for each DQ of an INT32 constant."""
    for dq in _sites(index):
        yield Finding(RULE, dq.name, 0, "a DQ of an INT32 constant, which TensorRT refuses", "store the bias as float",
                      fixable=True)  # fmt: skip


def fix(index: Index) -> int:
    """Store each bias as the float that its DQ makes of it. Returns how many."""
    found = list(_sites(index))
    for dq in found:
        values, scale = index.constant(dq.input[0]), index.scale(dq)
        assert values is not None
        assert scale is not None
        name = f"{dq.output[0]}_float"
        bias = (values.astype(np.float64) * scale).astype(np.float32)
        index.model.graph.initializer.append(numpy_helper.from_array(bias, name))
        for reader in index.readers.get(dq.output[0], ()):
            for slot, tensor in enumerate(reader.input):
                if tensor == dq.output[0]:
                    index.replace_input(reader, slot, name)
    index.drop_unread()
    return len(found)


def _sites(index: Index) -> Iterator[NodeProto]:
    for dq in index.nodes(DEQUANTIZE):
        values = index.constant(dq.input[0])
        if values is not None and values.dtype == np.int32 and index.scale(dq) is not None:
            yield dq
