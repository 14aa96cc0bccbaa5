"""Rows of the table in `walk.py`: operators that move elements, each of which keeps its scale."""

import numpy as np
from numpy.typing import NDArray

from quantbench.folding.moves import moved
from quantbench.folding.variables import MOST_ELEMENTS, Variables, compressed
from quantbench.graph.view import NodeView


def reshapes(walk: Variables, node: NodeView) -> None:
    name, shape = node.inputs[0], walk.shapes[node.outputs[0]]
    if name not in walk.ids:
        return
    whole = walk.full(name) if name in walk.shapes else None
    if whole is None or whole.size != np.prod(shape, dtype=np.int64):
        return walk.pin_inputs(node)
    walk.put(node.outputs[0], compressed(whole.reshape(shape)))
    return None


def transposes(walk: Variables, node: NodeView) -> None:
    if node.inputs[0] in walk.ids:
        ids = walk.ids[node.inputs[0]]
        walk.put(node.outputs[0], ids.transpose(node.attributes.get("perm", tuple(range(ids.ndim))[::-1])))


def moves(walk: Variables, node: NodeView) -> None:
    name = node.inputs[0]
    if name not in walk.ids:
        return
    whole = walk.full(name)
    parameters = [walk.constant(other) if other else None for other in node.inputs[1:]]
    unknown = any(other and value is None for other, value in zip(node.inputs[1:], parameters, strict=True))
    found = None if whole is None or unknown else moved(walk.protos[node.name], walk.model, whole, parameters)
    if found is None or found.shape != walk.shapes[node.outputs[0]]:
        return walk.pin_inputs(node)
    walk.put(node.outputs[0], compressed(found))
    return None


def splits(walk: Variables, node: NodeView) -> None:
    name = node.inputs[0]
    if name not in walk.ids:
        return
    if any(out not in walk.shapes for out in node.outputs):
        return walk.pin_inputs(node)
    ids, axis = walk.ids[name], int(node.attributes.get("axis", 0))
    ends = np.cumsum([walk.shapes[out][axis] for out in node.outputs])[:-1]
    for out, part in zip(node.outputs, np.split(ids, ends, axis) if ids.shape[axis] > 1 else
                         [ids] * len(node.outputs), strict=True):  # fmt: skip
        walk.put(out, part)
    return None


def concats(walk: Variables, node: NodeView) -> None:
    axis = int(node.attributes["axis"])
    if not any(name in walk.ids for name in node.inputs):
        return
    alien = f"{node.op} {node.name} joins it with what has no scale"
    parts = []
    for name in node.inputs:
        empty = _zeros(walk, name)
        shape = walk.shapes.get(name) or (empty.shape if empty is not None else None)
        if shape is None:
            return walk.pin_inputs(node, alien)
        ids = walk.ids.get(name)
        if ids is None:  # zeros may have any scale, the rest none
            width = shape[axis] if empty is not None else 1
            ids = walk.fresh(width).reshape([width if a == axis % len(shape) else 1 for a in range(len(shape))])
            if empty is None:
                walk.pins.append((ids.reshape(-1), alien))
        parts.append((ids, shape[axis]))
    rank = len(walk.shapes[node.outputs[0]])
    common = [max(ids.shape[a] for ids, _ in parts) for a in range(rank)]
    if int(np.prod(common)) // max(common[axis], 1) * walk.shapes[node.outputs[0]][axis] > MOST_ELEMENTS:
        return walk.pin_inputs(node)
    wide = []
    for ids, size in parts:
        target = list(common)
        target[axis] = size
        wide.append(np.broadcast_to(ids, target))
    walk.put(node.outputs[0], compressed(np.concatenate(wide, axis)))
    return None


def _zeros(walk: Variables, name: str) -> NDArray[np.generic] | None:
    """The constant `name` where it holds zeros alone."""
    maker = walk.view.producers.get(name)
    shape = walk.view.tensors[name].shape if name in walk.view.tensors else None
    if maker is not None and maker.op == "ConstantOfShape" and shape and all(isinstance(d, int) for d in shape):
        value = np.asarray(maker.attributes.get("value", 0.0))
        return None if value.any() else np.broadcast_to(value.reshape(-1)[0], [int(d or 0) for d in shape])
    values = walk.constant(name)
    return values if values is not None and not values.any() else None
