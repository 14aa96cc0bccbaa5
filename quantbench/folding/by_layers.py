"""Rows of the table in `walk.py`: layers, which read channels, whose scales their weights take off, and make others,
which their weights put on."""

import numpy as np

from quantbench.folding.channels import Factor
from quantbench.folding.variables import Variables
from quantbench.graph.view import NodeView

# Norms whose constants at inputs 1 and 2 scale and move each channel, and the axis of these.
NORMS = {"BatchNormalization": 1, "InstanceNormalization": 1, "GroupNormalization": 1, "LayerNormalization": -1,
          "RMSNormalization": -1, "SimplifiedLayerNormalization": -1}  # fmt: skip


def conv(walk: Variables, node: NodeView) -> None:
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""
    if not walk.is_own(weight) or (bias and bias not in walk.stored):
        return walk.pin_inputs(node, f"{node.name} shares its weight, or computes it")
    shape, groups = tuple(walk.stored[weight].dims), int(node.attributes.get("group", 1))
    turned = node.op == "ConvTranspose"
    tail = (1,) * (len(shape) - 2)
    out = shape[1] * groups if turned else shape[0]
    size = shape[0] if turned else shape[1] * groups
    if (given := walk.read(node, 1, size)) is not None:
        if turned:
            walk.factors.append(Factor(node.name, 1, given.reshape(size, 1, *tail), -1))
        else:
            rows = np.repeat(given.reshape(groups, -1), out // groups, axis=0)
            walk.factors.append(Factor(node.name, 1, rows.reshape(out, -1, *tail), -1))
    made = walk.make(node, 1, out)
    if turned:
        rows = np.repeat(made.reshape(groups, -1), size // groups, axis=0)
        walk.factors.append(Factor(node.name, 1, rows.reshape(size, -1, *tail), 1))
    else:
        walk.factors.append(Factor(node.name, 1, made.reshape(out, 1, *tail), 1))
    if bias:
        walk.factors.append(Factor(node.name, 2, made, 1))
    return None


def matrix(walk: Variables, node: NodeView) -> None:
    left, right = node.inputs[:2]
    if node.op == "MatMul" and right not in walk.stored:
        return _product(walk, node)
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    flipped = bool(node.attributes.get("transB", 0))
    stack = left in walk.stored or len(walk.stored[right].dims) != 2 if right in walk.stored else True
    if stack or not walk.is_own(right) or node.attributes.get("transA", 0) or (bias and bias not in walk.stored):
        return walk.pin_inputs(node, f"{node.name} shares its weight, computes it, or has a stack of them")
    size, out = walk.stored[right].dims[::-1] if flipped else walk.stored[right].dims
    if (given := walk.read(node, -1, size)) is not None:
        walk.factors.append(Factor(node.name, 1, given[None, :] if flipped else given[:, None], -1))
    made = walk.make(node, -1, out)
    walk.factors.append(Factor(node.name, 1, made[:, None] if flipped else made[None, :], 1))
    if bias:
        walk.factors.append(Factor(node.name, 2, made, 1))
    return None


def _product(walk: Variables, node: NodeView) -> None:
    """Of two activations: what each column of the right one is scaled by, the columns of the result are too."""
    walk.pin(node.inputs[0], f"{node.op} {node.name} multiplies it with another activation")
    right = node.inputs[1]
    if right not in walk.ids or walk.ids[right].ndim < 2:
        return
    if walk.ids[right].shape[-2] > 1:
        walk.pin(right, f"{node.op} {node.name} sums over its channels")
        return
    walk.put(node.outputs[0], walk.ids[right])


def norm(walk: Variables, node: NodeView) -> None:
    walk.pin(node.inputs[0], f"{node.op} {node.name} reads it, which does not commute with a scale")
    axis = NORMS[node.op]
    shape = walk.shapes[node.outputs[0]]
    constants = [name for name in node.inputs[1:3] if name]
    sizes = [tuple(walk.stored[name].dims) for name in constants if name in walk.stored]
    if not constants or len(sizes) < len(constants) or any(size != (shape[axis],) for size in sizes):
        return
    made = walk.make(node, axis, shape[axis])
    for index in range(1, 1 + len(constants)):
        walk.factors.append(Factor(node.name, index, made, 1))
