"""What the rules ask of a node beyond its row in the operator table: where its weight is, whether it moves data."""

from quantbench.graph.ops import SWAPS, WEIGHTED, keeps_values
from quantbench.graph.view import GraphView, NodeView


def is_mover(node: NodeView) -> bool:
    """Whether `node` only moves or selects values of its first input, so that one scale serves both sides."""
    return keeps_values(node.op, node.attributes)


def passes_int8(node: NodeView) -> bool:
    """Whether TensorRT also moves Q and DQ past the mover `node`: not past a Gather, which goes to Myelin."""
    return is_mover(node) and node.op in SWAPS


def weight_index(view: GraphView, node: NodeView) -> int | None:
    """Index of the constant weight input of a weighted op, None where `node` has none (a MatMul of activations)."""
    if node.op not in WEIGHTED or len(node.inputs) < 2:
        return None
    if view.is_constant(node.inputs[1]):
        return 1
    if node.op == "MatMul" and view.is_constant(node.inputs[0]):
        return 0
    return None


def weight_axis(view: GraphView, node: NodeView, index: int) -> int | None:
    """Axis of the output channels in the weight of `node`; None (per tensor) for a weight without channels.

    Conv [K, C/g, ...]: 0. ConvTranspose [C, K/g, ...]: 1. Gemm: 0 with transB, else 1. MatMul: the last axis of the
    right operand (ONNX operator specification).
    """
    tensor = view.tensors.get(node.inputs[index])
    rank = len(tensor.shape) if tensor is not None and tensor.shape is not None else 0
    if node.op == "Conv":
        return 0
    if node.op == "ConvTranspose":
        return 1
    if node.op == "Gemm":
        return 0 if node.attributes.get("transB", 0) else 1
    if rank < 2:
        return None
    return rank - 1 if index == 1 else rank - 2


def out_channels(view: GraphView, node: NodeView) -> int | None:
    """Output channels of a weighted op, None where they are unknown."""
    index = weight_index(view, node)
    if index is None:
        return None
    shape = view.tensors[node.inputs[index]].shape
    axis = weight_axis(view, node, index)
    if shape is None or axis is None or axis >= len(shape):
        return None
    channels = shape[axis]
    if not isinstance(channels, int):
        return None
    group = int(node.attributes.get("group", 1)) if node.op == "ConvTranspose" else 1
    return channels * group
