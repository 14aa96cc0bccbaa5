"""Rows of the table in `walk.py`: operators that compute f(s x) = s f(x), and those that join channels or multiply
them."""

import numpy as np

from quantbench.folding.channels import Bound, Factor
from quantbench.folding.variables import Variables, along
from quantbench.graph.view import NodeView


def passes(walk: Variables, node: NodeView) -> None:
    name = node.inputs[0]
    if name in walk.ids:
        walk.put(node.outputs[0], walk.ids[name])


def pools(walk: Variables, node: NodeView) -> None:
    if node.inputs[0] in walk.ids and max(walk.ids[node.inputs[0]].shape[2:], default=1) > 1:
        return walk.pin_inputs(node)
    return passes(walk, node)


def clip(walk: Variables, node: NodeView) -> None:
    name = node.inputs[0]
    if name not in walk.ids:
        return
    ends = [walk.constant(end) if end else None for end in (*node.inputs[1:], "", "")[:2]]
    low = float(ends[0].reshape(-1)[0]) if ends[0] is not None else float(node.attributes.get("min", -np.inf))
    high = float(ends[1].reshape(-1)[0]) if ends[1] is not None else float(node.attributes.get("max", np.inf))
    known = all(not end or end in walk.stored for end in node.inputs[1:3])
    if not known or low > 0 or high <= 0:
        return walk.pin_inputs(node)
    limit = min(high, -low if low < 0 else np.inf)
    passes(walk, node)
    if np.isfinite(limit):
        ids = walk.ids[name]
        axis = int(np.argmax(ids.shape))
        flat = along(ids, axis, ids.shape[axis])
        if flat is None:
            return walk.pin_inputs(node)
        walk.bounds.append(Bound(node.outputs[0], axis, flat, limit))
    return None


def reduces(walk: Variables, node: NodeView) -> None:
    name = node.inputs[0]
    if name not in walk.ids:
        return
    ids = walk.ids[name]
    given = walk.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
    axes = [int(axis) for axis in (given if given is not None else node.attributes.get("axes", ()))]
    if not axes or any(ids.shape[axis] > 1 for axis in axes):
        return walk.pin_inputs(node)
    kept = node.attributes.get("keepdims", 1)
    walk.ids[node.outputs[0]] = ids if kept else ids.squeeze(tuple(axes))
    return None


def pads(walk: Variables, node: NodeView) -> None:
    name = node.inputs[0]
    if name not in walk.ids:
        return
    stored = walk.constant(node.inputs[1]) if len(node.inputs) > 1 else np.asarray(node.attributes.get("pads", ()))
    given = None if stored is None else stored.astype(np.int64)
    value = walk.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
    rank, ids = len(walk.shapes[name]), walk.ids[name]
    if given is None or value is None or np.any(value != 0) or len(given) != 2 * rank or np.any(given < 0):
        return walk.pin_inputs(node)
    pads = [(int(given[a]), int(given[rank + a])) if ids.shape[a] > 1 else (0, 0) for a in range(rank)]
    if any(map(any, pads)) and (node.attributes.get("mode", "constant") != "constant"):
        return walk.pin_inputs(node)
    padded = np.pad(ids, pads, constant_values=-1)
    # Zeros may have any scale.
    padded[padded < 0] = walk.fresh(int((padded < 0).sum()))
    walk.put(node.outputs[0], padded)
    return None


def joins(walk: Variables, node: NodeView) -> None:
    """An Add, say, of activations, or of one and a constant."""
    given = [name for name in node.inputs if name in walk.ids]
    rest = [name for name in node.inputs if name not in walk.ids]
    if not given:
        return
    if rest and (len(given) > 1 or len(rest) > 1 or rest[0] not in walk.stored):
        return walk.pin_inputs(node, f"{node.op} {node.name} adds to it what has no scale")
    if rest:
        return _adds_constant(walk, node, given[0], rest[0])
    out = walk.shapes[node.outputs[0]]
    parts = [walk.ids[name].reshape((1,) * (len(out) - walk.ids[name].ndim) + walk.ids[name].shape)
             for name in given]  # fmt: skip
    whole = np.broadcast_arrays(*parts)
    for other in whole[1:]:
        walk.same.append(np.stack([whole[0].reshape(-1), other.reshape(-1)]))
    walk.put(node.outputs[0], whole[0])
    return None


def _adds_constant(walk: Variables, node: NodeView, name: str, constant: str) -> None:
    ids, rank = walk.ids[name], len(walk.shapes[node.outputs[0]])
    if node.op not in ("Add", "Sub") or rank != ids.ndim:
        return walk.pin_inputs(node)
    walk.put(node.outputs[0], ids)
    dims = len(walk.stored[constant].dims)
    aligned = ids.reshape(ids.shape[next((a for a in range(ids.ndim) if ids.shape[a] > 1), ids.ndim) :])
    aligned = aligned.reshape((1,) * max(dims - aligned.ndim, 0) + aligned.shape)
    walk.factors.append(Factor(node.name, list(node.inputs).index(constant), aligned, 1))
    return None


def multiplies(walk: Variables, node: NodeView) -> None:
    left, right = node.inputs
    power = -1 if node.op == "Div" else 1
    if right not in walk.stored and left in walk.stored and node.op == "Mul":
        left, right = right, left
    if right in walk.stored:
        return _scales(walk, node, left, right, power)
    scaled = [name for name in (left, right) if walk.has_scale(name)]
    if len(scaled) == 2 or (scaled == [right] and node.op == "Div"):
        return walk.pin_inputs(node, f"{node.op} {node.name} multiplies it with another activation")
    for name in scaled or [name for name in (left, right) if name in walk.ids][:1]:
        walk.put(node.outputs[0], walk.ids[name])
    return None


def _scales(walk: Variables, node: NodeView, name: str, constant: str, power: int) -> None:
    """By a constant: one that differs along a single axis can take in any scale, as the weight of a norm does."""
    dims, shape = tuple(walk.stored[constant].dims), walk.shapes[node.outputs[0]]
    wide = [axis - len(dims) for axis, length in enumerate(dims) if length > 1]
    if len(wide) != 1 or len(dims) > len(shape):
        if name in walk.ids and walk.ids[name].ndim == len(shape):
            walk.put(node.outputs[0], walk.ids[name])
        elif name in walk.ids:
            walk.pin_inputs(node)
        return
    axis, index = wide[0], list(node.inputs).index(constant)
    given = along(walk.ids[name], axis, shape[axis]) if name in walk.ids else None
    if name in walk.ids and given is None:
        walk.pin_inputs(node)
    made = walk.make(node, axis, shape[axis])
    place = [shape[axis] if a == axis + len(dims) else 1 for a in range(len(dims))]
    walk.factors.append(Factor(node.name, index, made.reshape(place), power))
    if given is not None:
        walk.factors.append(Factor(node.name, index, given.reshape(place), -power))
