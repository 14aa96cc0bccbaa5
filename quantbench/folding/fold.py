"""Carry scales out: the constants of a network multiplied so that every channel has its scale."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantbench.folding.channels import Channels
from quantbench.graph.surgery import copied

Scales = NDArray[np.float64]


def fold(model: onnx.ModelProto, channels: Channels, scales: Scales) -> onnx.ModelProto:
    """A copy of `model` in which the channels of class k are scaled by `scales`[k] (positive; pinned ones by 1).

    It has the same nodes and tensors; its outputs are those of `model` to float rounding, as long as no value exceeds
    a Clip that `Channels.bounds` tells of. A constant that several nodes read is copied for the one that changes it.
    """
    result = copied(model)
    changes: dict[tuple[str, int], NDArray[np.float64]] = {}
    stored = {tensor.name: tensor for tensor in result.graph.initializer}
    nodes = {node.name: node for node in result.graph.node}
    for factor in channels.factors:
        by = scales[channels.class_of[factor.ids]] ** factor.power
        if (by == 1).all():
            continue
        key = (factor.node, factor.index)
        if key not in changes:
            changes[key] = numpy_helper.to_array(stored[nodes[factor.node].input[factor.index]]).astype(np.float64)
        changes[key] = changes[key] * by
    _store(result, stored, {nodes[node].input[index]: 0 for node, index in changes}, changes)
    return result


def _store(
    model: onnx.ModelProto,
    stored: Mapping[str, onnx.TensorProto],
    read: dict[str, int],
    changes: Mapping[tuple[str, int], NDArray[np.float64]],
) -> None:
    nodes = {node.name: node for node in model.graph.node}
    for node in model.graph.node:
        for name in node.input:
            if name in read:
                read[name] += 1
    taken = set(stored) | {name for node in model.graph.node for name in (*node.input, *node.output)}
    for (node_name, index), values in changes.items():
        node = nodes[node_name]
        name = node.input[index]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(stored[name].data_type)
        if read[name] == 1:
            stored[name].CopyFrom(numpy_helper.from_array(values.astype(dtype), name))
            continue
        own = f"{name}_of_{node_name}"
        while own in taken:
            own += "_"
        taken.add(own)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(dtype), own))
        node.input[index] = own
