"""Batch norms, and Adds and Muls of constants, into the conv before them: what rule `fold` names in a Plan."""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantbench.graph.ops import IDENTITIES
from quantbench.graph.surgery import values_of

Channels = NDArray[np.float64]


def fold_affine(graph: gs.Graph, names: Sequence[str]) -> None:
    """Fold the nodes `names` of `graph`, each of which alone reads what a Conv writes, in place and in this order.

    The conv then writes the tensor of the last of them; its weight keeps its name. Computed in float64.
    """
    nodes = {node.name: node for node in graph.nodes}
    for name in names:
        node = nodes[name]
        index = next(i for i, given in enumerate(node.inputs) if given.inputs and given.inputs[0].op == "Conv")
        conv = node.inputs[index].inputs[0]
        if node.op not in IDENTITIES:
            weight = values_of(conv.inputs[1])
            scale, shift = _of(node, index, weight.shape[0])
            _into(conv, weight, scale, shift)
        output = node.outputs[0]
        node.outputs.clear()
        conv.outputs[0] = output


def _of(node: gs.Node, index: int, channels: int) -> tuple[Channels, Channels]:
    """Scale and shift [channels] of `node`, which reads the conv at input `index`."""
    if node.op == "BatchNormalization":
        gain, bias, mean, variance = (np.asarray(values_of(t), np.float64) for t in node.inputs[1:5])
        scale = gain / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5)))
        return scale, bias - mean * scale
    constant = np.asarray(values_of(node.inputs[1 - index]), np.float64).reshape(-1)
    given = np.broadcast_to(constant, (channels,))
    return (given, np.zeros(channels)) if node.op == "Mul" else (np.ones(channels), given)


def _into(conv: gs.Node, weight: NDArray[np.floating], scale: Channels, shift: Channels) -> None:
    held = len(conv.inputs) > 2 and not conv.inputs[2].is_empty()
    old = np.asarray(values_of(conv.inputs[2]), np.float64) if held else np.zeros(len(scale))
    name = conv.inputs[1].name
    shape = (-1, *(1 for _ in weight.shape[1:]))
    conv.inputs[1] = gs.Constant(name, (weight * scale.reshape(shape)).astype(weight.dtype))
    bias = gs.Constant(f"{name}_folded_bias", (old * scale + shift).astype(weight.dtype))
    conv.inputs = [conv.inputs[0], conv.inputs[1], bias]
