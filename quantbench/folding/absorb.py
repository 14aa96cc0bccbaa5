"""Absorption of high biases: what a channel always has above zero goes from one conv's bias into the next one's.

Source: Nagel et al., arXiv:1906.04721, section 4.1.3. ReLU(W x + b - c) = ReLU(W x + b) - c where the channel never
falls under c, and the conv behind takes W2 c into its bias. There c is the mean less three deviations of a normal
distribution, here the least value on the calibration samples; without a ReLU between the convs any c is exact, and the
middle of the channel's range is taken. The conv behind must pad nothing: the zeros of a border would have to be -c.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantbench.folding.rows import Rows
from quantbench.graph.surgery import copied
from quantbench.graph.view import GraphView, NodeView
from quantbench.records.folded import Absorbed

# The range of the tensor must fall to this share of what it was, else nothing is gained.
_WORTH = 0.95


def absorb(
    model: onnx.ModelProto, view: GraphView, rows: Mapping[str, Rows], layers: Collection[str]
) -> tuple[onnx.ModelProto, tuple[Absorbed, ...]]:
    """A copy of `model` with biases absorbed wherever that narrows the input of a conv in `layers`, and where.

    `rows` are those of `model` itself: after equalization they have to be taken anew, or scaled (`scaled_rows`).
    """
    result = copied(model)
    stored = {tensor.name: tensor for tensor in result.graph.initializer}
    nodes = {node.name: node for node in result.graph.node}
    found = []
    for maker in view.nodes:
        path = _path(view, maker, stored, layers) if maker.op == "Conv" else None
        if path is None or path[0] not in rows:
            continue
        tensor, through_relu, readers = path
        low, high = rows[tensor].all_ends.astype(np.float64)
        shift = np.maximum(low, 0.0) if through_relu else (low + high) / 2
        before, after = (max(np.abs(low - c).max(), np.abs(high - c).max()) for c in (0.0, shift))
        if not after <= _WORTH * before:
            continue
        _add_bias(result, nodes[maker.name], stored, -shift)
        for reader in readers:
            _add_bias(result, nodes[reader.name], stored, _given(reader, stored, shift))
        names = tuple(reader.name for reader in readers)
        found.append(Absorbed(maker=maker.name, readers=names, channels=int((shift != 0).sum()), share=after / before))
    return result, tuple(found)


def scaled_rows(rows: Rows, scale: NDArray[np.float64]) -> Rows:
    """`rows` of a tensor whose channels have been scaled since."""
    by = scale.astype(np.float32)
    return Rows(rows.seen * by, rows.held * by, rows.ends * by, rows.held_ends * by)


def _path(
    view: GraphView, maker: NodeView, stored: Mapping[str, onnx.TensorProto], layers: Collection[str]
) -> tuple[str, bool, list[NodeView]] | None:
    """The tensor that `maker` gives to convs, behind a ReLU or not, and these; None where something else reads it."""
    tensor, through_relu = maker.outputs[0], False
    behind = [node for node, _ in view.readers(tensor)]
    if len(behind) == 1 and behind[0].op == "Relu" and tensor not in view.outputs:
        tensor, through_relu = behind[0].outputs[0], True
        behind = [node for node, _ in view.readers(tensor)]
    fits = all(
        node.op == "Conv" and node.name in layers and node.inputs[0] == tensor and _pads_nothing(node)
        and node.inputs[1] in stored and all(name in stored for name in node.inputs[2:] if name)
        for node in behind
    )  # fmt: skip
    own = all(name in stored for name in maker.inputs[1:] if name)
    return (tensor, through_relu, behind) if behind and fits and own and tensor not in view.outputs else None


def _pads_nothing(node: NodeView) -> bool:
    named = node.attributes.get("auto_pad", "NOTSET")
    return named == "VALID" or (named == "NOTSET" and not any(node.attributes.get("pads", ())))


def _given(node: NodeView, stored: Mapping[str, onnx.TensorProto], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a conv makes of channels that are `shift` everywhere: [outputs]."""
    weight = numpy_helper.to_array(stored[node.inputs[1]]).astype(np.float64)
    groups = int(node.attributes.get("group", 1))
    taps = weight.reshape(groups, -1, weight.shape[1], int(np.prod(weight.shape[2:]))).sum(axis=3)
    found: NDArray[np.float64] = np.einsum("goi,gi->go", taps, shift.reshape(groups, -1)).reshape(-1)
    return found


def _add_bias(
    model: onnx.ModelProto, node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], change: NDArray[np.float64]
) -> None:
    given = node.input[2] if len(node.input) > 2 else ""
    dtype = helper.tensor_dtype_to_np_dtype(stored[node.input[1]].data_type)
    old = numpy_helper.to_array(stored[given]).astype(np.float64) if given else 0.0
    name = f"{node.name}_bias_absorbed"
    while name in stored:
        name += "_"
    stored[name] = numpy_helper.from_array((old + change).astype(dtype), name)
    model.graph.initializer.append(stored[name])
    if len(node.input) > 2:
        node.input[2] = name
    else:
        node.input.append(name)
