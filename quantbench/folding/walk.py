"""Which channels of a network can be scaled without changing what it computes, and which constants then take part.

Every channel that a layer makes gets a variable, its scale: a conv, Linear or norm can give s x in place of x by its
own weights. The variables go through the graph as arrays of their numbers, one an element (axes along which they are
the same have length 1), so that reshapes, transposes, splits and heads of attention need no rules of their own. What
computes f(s x) = s f(x) passes them on (ReLU, pooling, padding with zeros); an Add of two activations makes theirs one;
a layer that reads them can take 1 / s into its weights. Anything else (Sigmoid and so SiLU, h-swish, softmax, a graph
output) pins them to 1, and the reason is kept.

The upper end of a Clip stays where it is: `Site.bounds` say how far its channels may be scaled before it bites, and
they are never scaled down.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantbench.folding.channels import Bound, Channels, Factor, Ids, Maker, Pinned, Reader, components
from quantbench.folding.moves import moved
from quantbench.graph.ops import CONVS, MATRIX
from quantbench.graph.subgraphs import captures
from quantbench.graph.view import GraphView, NodeView

# Of the array of variables of one tensor.
_MOST_ELEMENTS = 1 << 23
_PASSES = frozenset({"Relu", "LeakyRelu", "PRelu", "Identity", "Dropout", "Abs", "Neg"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize"})
_REDUCES = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"})
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_MOVES = frozenset({"Slice", "Gather", "DepthToSpace", "SpaceToDepth", "Tile"})
_JOINS = frozenset({"Add", "Sub", "Max", "Min", "Sum", "Mean"})
# Norms whose constants at inputs 1 and 2 scale and move each channel, and the axis of these.
_NORMS = {"BatchNormalization": 1, "InstanceNormalization": 1, "GroupNormalization": 1, "LayerNormalization": -1,
          "RMSNormalization": -1, "SimplifiedLayerNormalization": -1}  # fmt: skip


def find_channels(model: onnx.ModelProto, view: GraphView, shapes: Mapping[str, tuple[int, ...]]) -> Channels:
    """The channels of `model` (its `view`); `shapes`: of its tensors for one sample, as a run of it shows them. Tensors
    without a shape there take no scales."""
    walk = _Walk(model, view, shapes)
    for node in view.nodes:
        walk.visit(node)
    return walk.result()


def compressed(ids: Ids) -> Ids:
    """`ids` with length 1 along each axis on which they are all the same."""
    for axis in range(ids.ndim):
        first = ids.take([0], axis=axis)
        if ids.shape[axis] > 1 and (ids == first).all():
            ids = first
    return ids


def along(ids: Ids, axis: int, size: int) -> Ids | None:
    """`ids` [size] along `axis`; None where they differ along another one."""
    axis %= ids.ndim
    if any(length > 1 for place, length in enumerate(ids.shape) if place != axis):
        return None
    return np.broadcast_to(ids.reshape(-1), (size,))


@dataclass
class _Walk:
    model: onnx.ModelProto
    view: GraphView
    shapes: Mapping[str, tuple[int, ...]]
    ids: dict[str, Ids] = field(default_factory=dict)
    factors: list[Factor] = field(default_factory=list)
    makers: list[Maker] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    pins: list[tuple[Ids, str]] = field(default_factory=list)
    same: list[NDArray[np.int64]] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)
    unscaled: list[Pinned] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    count: int = 0

    def __post_init__(self) -> None:
        self.stored = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.protos = {node.name: node for node in self.model.graph.node}
        self.outputs = set(self.view.outputs)

    def result(self) -> Channels:
        class_of = components(self.same, self.count)
        pinned: dict[int, str] = {}
        for ids, reason in self.pins:
            for number in np.unique(class_of[ids]):
                pinned.setdefault(int(number), reason)
        return Channels(class_of, pinned, tuple(self.factors), tuple(self.makers), tuple(self.readers),
                        tuple(self.bounds), tuple(self.unscaled))  # fmt: skip

    def fresh(self, count: int) -> Ids:
        self.count += count
        return np.arange(self.count - count, self.count)

    def constant(self, name: str) -> NDArray[np.generic] | None:
        return numpy_helper.to_array(self.stored[name]) if name in self.stored else None

    def pin(self, name: str, reason: str) -> None:
        if name in self.ids:
            self.pins.append((self.ids[name].reshape(-1), reason))
            self.held.update(self.pins[-1][0].tolist())

    def has_scale(self, name: str) -> bool:
        """Whether `name` may still have another scale than 1."""
        return name in self.ids and not self.held.issuperset(np.unique(self.ids[name]).tolist())

    def pin_inputs(self, node: NodeView, why: str = "") -> None:
        for name in node.inputs:
            self.pin(name, why or f"{node.op} {node.name} reads it, which does not commute with a scale")
        for name in node.outputs:
            self.without[name] = why or f"{node.op} {node.name} stands before it, which does not commute with a scale"

    def visit(self, node: NodeView) -> None:
        """Give the outputs of `node` their variables, or pin those of its inputs."""
        given = [name for name in node.inputs if name in self.ids]
        proto = self.protos[node.name]
        for name in captures(proto):
            self.pin(name, f"the body of {node.op} {node.name} reads it")
        work = _WORK.get(node.op, _Walk.pin_inputs)
        if node.outputs[0] in self.shapes and proto.domain in ("", "ai.onnx", "com.microsoft"):
            work(self, node)
        elif given:
            self.pin_inputs(node)
        for name in node.outputs:
            if name not in self.ids and name not in self.without:
                known = [self.without[given] for given in node.inputs if given in self.without]
                self.without[name] = known[0] if known else f"nothing before {node.name} can scale it"
            if name in self.outputs:
                self.pin(name, f"{name} is an output of the network")

    def put(self, name: str, ids: Ids) -> None:
        """`ids` for the tensor `name`, with as many axes as it has."""
        rank = len(self.shapes[name])
        self.ids[name] = ids.reshape((1,) * (rank - ids.ndim) + ids.shape)

    def make(self, node: NodeView, axis: int, count: int) -> Ids:
        ids = self.fresh(count)
        rank = len(self.shapes[node.outputs[0]])
        self.put(node.outputs[0], ids.reshape([count if place == axis % rank else 1 for place in range(rank)]))
        self.makers.append(Maker(node, ids))
        return ids

    def is_own(self, name: str) -> bool:
        """Whether the constant `name` is read once, so that it may be changed."""
        return name in self.stored and len(self.view.readers(name)) == 1

    def conv(self, node: NodeView) -> None:
        weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""
        if not self.is_own(weight) or (bias and bias not in self.stored):
            return self.pin_inputs(node, f"{node.name} shares its weight, or computes it")
        shape, groups = tuple(self.stored[weight].dims), int(node.attributes.get("group", 1))
        turned = node.op == "ConvTranspose"
        tail = (1,) * (len(shape) - 2)
        out = shape[1] * groups if turned else shape[0]
        size = shape[0] if turned else shape[1] * groups
        if (given := self.read(node, 1, size)) is not None:
            if turned:
                self.factors.append(Factor(node.name, 1, given.reshape(size, 1, *tail), -1))
            else:
                rows = np.repeat(given.reshape(groups, -1), out // groups, axis=0)
                self.factors.append(Factor(node.name, 1, rows.reshape(out, -1, *tail), -1))
        made = self.make(node, 1, out)
        if turned:
            rows = np.repeat(made.reshape(groups, -1), size // groups, axis=0)
            self.factors.append(Factor(node.name, 1, rows.reshape(size, -1, *tail), 1))
        else:
            self.factors.append(Factor(node.name, 1, made.reshape(out, 1, *tail), 1))
        if bias:
            self.factors.append(Factor(node.name, 2, made, 1))
        return None

    def read(self, node: NodeView, axis: int, size: int) -> Ids | None:
        """The ids of the channels that `node` reads along `axis`; it is a reader of these."""
        name = node.inputs[0]
        if name not in self.ids:
            why = self.without.get(name, f"{name} is an input of the network")
            self.unscaled.append(Pinned(node.name, node.op, why))
            return None
        ids = along(self.ids[name], axis, size)
        if ids is None:
            self.pin(name, f"{node.name} reads channels in another order")
            return None
        self.readers.append(Reader(node, name, axis, ids))
        return ids

    def matrix(self, node: NodeView) -> None:
        left, right = node.inputs[:2]
        if node.op == "MatMul" and right not in self.stored:
            return self.product(node)
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        flipped = bool(node.attributes.get("transB", 0))
        stack = left in self.stored or len(self.stored[right].dims) != 2 if right in self.stored else True
        if stack or not self.is_own(right) or node.attributes.get("transA", 0) or (bias and bias not in self.stored):
            return self.pin_inputs(node, f"{node.name} shares its weight, computes it, or has a stack of them")
        size, out = self.stored[right].dims[::-1] if flipped else self.stored[right].dims
        if (given := self.read(node, -1, size)) is not None:
            self.factors.append(Factor(node.name, 1, given[None, :] if flipped else given[:, None], -1))
        made = self.make(node, -1, out)
        self.factors.append(Factor(node.name, 1, made[:, None] if flipped else made[None, :], 1))
        if bias:
            self.factors.append(Factor(node.name, 2, made, 1))
        return None

    def product(self, node: NodeView) -> None:
        """Of two activations: what each column of the right one is scaled by, the columns of the result are too."""
        self.pin(node.inputs[0], f"{node.op} {node.name} multiplies it with another activation")
        right = node.inputs[1]
        if right not in self.ids or self.ids[right].ndim < 2:
            return
        if self.ids[right].shape[-2] > 1:
            self.pin(right, f"{node.op} {node.name} sums over its channels")
            return
        self.put(node.outputs[0], self.ids[right])

    def norm(self, node: NodeView) -> None:
        self.pin(node.inputs[0], f"{node.op} {node.name} reads it, which does not commute with a scale")
        axis = _NORMS[node.op]
        shape = self.shapes[node.outputs[0]]
        constants = [name for name in node.inputs[1:3] if name]
        sizes = [tuple(self.stored[name].dims) for name in constants if name in self.stored]
        if not constants or len(sizes) < len(constants) or any(size != (shape[axis],) for size in sizes):
            return
        made = self.make(node, axis, shape[axis])
        for index in range(1, 1 + len(constants)):
            self.factors.append(Factor(node.name, index, made, 1))

    def passes(self, node: NodeView) -> None:
        name = node.inputs[0]
        if name in self.ids:
            self.put(node.outputs[0], self.ids[name])

    def pools(self, node: NodeView) -> None:
        if node.inputs[0] in self.ids and max(self.ids[node.inputs[0]].shape[2:], default=1) > 1:
            return self.pin_inputs(node)
        return self.passes(node)

    def clip(self, node: NodeView) -> None:
        name = node.inputs[0]
        if name not in self.ids:
            return
        ends = [self.constant(end) if end else None for end in (*node.inputs[1:], "", "")[:2]]
        low = float(ends[0].reshape(-1)[0]) if ends[0] is not None else float(node.attributes.get("min", -np.inf))
        high = float(ends[1].reshape(-1)[0]) if ends[1] is not None else float(node.attributes.get("max", np.inf))
        known = all(not end or end in self.stored for end in node.inputs[1:3])
        if not known or low > 0 or high <= 0:
            return self.pin_inputs(node)
        limit = min(high, -low if low < 0 else np.inf)
        self.passes(node)
        if np.isfinite(limit):
            ids = self.ids[name]
            axis = int(np.argmax(ids.shape))
            flat = along(ids, axis, ids.shape[axis])
            if flat is None:
                return self.pin_inputs(node)
            self.bounds.append(Bound(node.outputs[0], axis, flat, limit))
        return None

    def reduces(self, node: NodeView) -> None:
        name = node.inputs[0]
        if name not in self.ids:
            return
        ids = self.ids[name]
        given = self.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
        axes = [int(axis) for axis in (given if given is not None else node.attributes.get("axes", ()))]
        if not axes or any(ids.shape[axis] > 1 for axis in axes):
            return self.pin_inputs(node)
        kept = node.attributes.get("keepdims", 1)
        self.ids[node.outputs[0]] = ids if kept else ids.squeeze(tuple(axes))
        return None

    def pads(self, node: NodeView) -> None:
        name = node.inputs[0]
        if name not in self.ids:
            return
        stored = self.constant(node.inputs[1]) if len(node.inputs) > 1 else np.asarray(node.attributes.get("pads", ()))
        given = None if stored is None else stored.astype(np.int64)
        value = self.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
        rank, ids = len(self.shapes[name]), self.ids[name]
        if given is None or value is None or np.any(value != 0) or len(given) != 2 * rank or np.any(given < 0):
            return self.pin_inputs(node)
        pads = [(int(given[a]), int(given[rank + a])) if ids.shape[a] > 1 else (0, 0) for a in range(rank)]
        if any(map(any, pads)) and (node.attributes.get("mode", "constant") != "constant"):
            return self.pin_inputs(node)
        padded = np.pad(ids, pads, constant_values=-1)
        # Zeros may have any scale.
        padded[padded < 0] = self.fresh(int((padded < 0).sum()))
        self.put(node.outputs[0], padded)
        return None

    def full(self, name: str) -> Ids | None:
        shape = self.shapes[name]
        return np.broadcast_to(self.ids[name], shape) if np.prod(shape, dtype=np.int64) <= _MOST_ELEMENTS else None

    def reshapes(self, node: NodeView) -> None:
        name, shape = node.inputs[0], self.shapes[node.outputs[0]]
        if name not in self.ids:
            return
        whole = self.full(name) if name in self.shapes else None
        if whole is None or whole.size != np.prod(shape, dtype=np.int64):
            return self.pin_inputs(node)
        self.put(node.outputs[0], compressed(whole.reshape(shape)))
        return None

    def transposes(self, node: NodeView) -> None:
        if node.inputs[0] in self.ids:
            ids = self.ids[node.inputs[0]]
            self.put(node.outputs[0], ids.transpose(node.attributes.get("perm", tuple(range(ids.ndim))[::-1])))

    def moves(self, node: NodeView) -> None:
        name = node.inputs[0]
        if name not in self.ids:
            return
        whole = self.full(name)
        parameters = [self.constant(other) if other else None for other in node.inputs[1:]]
        unknown = any(other and value is None for other, value in zip(node.inputs[1:], parameters, strict=True))
        found = None if whole is None or unknown else moved(self.protos[node.name], self.model, whole, parameters)
        if found is None or found.shape != self.shapes[node.outputs[0]]:
            return self.pin_inputs(node)
        self.put(node.outputs[0], compressed(found))
        return None

    def splits(self, node: NodeView) -> None:
        name = node.inputs[0]
        if name not in self.ids:
            return
        if any(out not in self.shapes for out in node.outputs):
            return self.pin_inputs(node)
        ids, axis = self.ids[name], int(node.attributes.get("axis", 0))
        ends = np.cumsum([self.shapes[out][axis] for out in node.outputs])[:-1]
        for out, part in zip(node.outputs, np.split(ids, ends, axis) if ids.shape[axis] > 1 else
                             [ids] * len(node.outputs), strict=True):  # fmt: skip
            self.put(out, part)
        return None

    def expands(self, node: NodeView) -> None:
        self.passes(node)

    def joins(self, node: NodeView) -> None:
        """An Add, say, of activations, or of one and a constant."""
        given = [name for name in node.inputs if name in self.ids]
        rest = [name for name in node.inputs if name not in self.ids]
        if not given:
            return
        if rest and (len(given) > 1 or len(rest) > 1 or rest[0] not in self.stored):
            return self.pin_inputs(node, f"{node.op} {node.name} adds to it what has no scale")
        if rest:
            return self.adds_constant(node, given[0], rest[0])
        out = self.shapes[node.outputs[0]]
        parts = [self.ids[name].reshape((1,) * (len(out) - self.ids[name].ndim) + self.ids[name].shape)
                 for name in given]  # fmt: skip
        whole = np.broadcast_arrays(*parts)
        for other in whole[1:]:
            self.same.append(np.stack([whole[0].reshape(-1), other.reshape(-1)]))
        self.put(node.outputs[0], whole[0])
        return None

    def adds_constant(self, node: NodeView, name: str, constant: str) -> None:
        ids, rank = self.ids[name], len(self.shapes[node.outputs[0]])
        if node.op not in ("Add", "Sub") or rank != ids.ndim:
            return self.pin_inputs(node)
        self.put(node.outputs[0], ids)
        dims = len(self.stored[constant].dims)
        aligned = ids.reshape(ids.shape[next((a for a in range(ids.ndim) if ids.shape[a] > 1), ids.ndim) :])
        aligned = aligned.reshape((1,) * max(dims - aligned.ndim, 0) + aligned.shape)
        self.factors.append(Factor(node.name, list(node.inputs).index(constant), aligned, 1))
        return None

    def multiplies(self, node: NodeView) -> None:
        left, right = node.inputs
        power = -1 if node.op == "Div" else 1
        if right not in self.stored and left in self.stored and node.op == "Mul":
            left, right = right, left
        if right in self.stored:
            return self.scales(node, left, right, power)
        scaled = [name for name in (left, right) if self.has_scale(name)]
        if len(scaled) == 2 or (scaled == [right] and node.op == "Div"):
            return self.pin_inputs(node, f"{node.op} {node.name} multiplies it with another activation")
        for name in scaled or [name for name in (left, right) if name in self.ids][:1]:
            self.put(node.outputs[0], self.ids[name])
        return None

    def scales(self, node: NodeView, name: str, constant: str, power: int) -> None:
        """By a constant: one that differs along a single axis can take in any scale, as the weight of a norm does."""
        dims, shape = tuple(self.stored[constant].dims), self.shapes[node.outputs[0]]
        wide = [axis - len(dims) for axis, length in enumerate(dims) if length > 1]
        if len(wide) != 1 or len(dims) > len(shape):
            if name in self.ids and self.ids[name].ndim == len(shape):
                self.put(node.outputs[0], self.ids[name])
            elif name in self.ids:
                self.pin_inputs(node)
            return
        axis, index = wide[0], list(node.inputs).index(constant)
        given = along(self.ids[name], axis, shape[axis]) if name in self.ids else None
        if name in self.ids and given is None:
            self.pin_inputs(node)
        made = self.make(node, axis, shape[axis])
        place = [shape[axis] if a == axis + len(dims) else 1 for a in range(len(dims))]
        self.factors.append(Factor(node.name, index, made.reshape(place), power))
        if given is not None:
            self.factors.append(Factor(node.name, index, given.reshape(place), -power))

    def zeros(self, name: str) -> NDArray[np.generic] | None:
        """The constant `name` where it holds zeros alone."""
        maker = self.view.producers.get(name)
        shape = self.view.tensors[name].shape if name in self.view.tensors else None
        if maker is not None and maker.op == "ConstantOfShape" and shape and all(isinstance(d, int) for d in shape):
            value = np.asarray(maker.attributes.get("value", 0.0))
            return None if value.any() else np.broadcast_to(value.reshape(-1)[0], [int(d or 0) for d in shape])
        values = self.constant(name)
        return values if values is not None and not values.any() else None

    def concats(self, node: NodeView) -> None:
        axis = int(node.attributes["axis"])
        if not any(name in self.ids for name in node.inputs):
            return
        alien = f"{node.op} {node.name} joins it with what has no scale"
        parts = []
        for name in node.inputs:
            zeros = self.zeros(name)
            shape = self.shapes.get(name) or (zeros.shape if zeros is not None else None)
            if shape is None:
                return self.pin_inputs(node, alien)
            ids = self.ids.get(name)
            if ids is None:  # zeros may have any scale, the rest none
                width = shape[axis] if zeros is not None else 1
                ids = self.fresh(width).reshape([width if a == axis % len(shape) else 1 for a in range(len(shape))])
                if zeros is None:
                    self.pins.append((ids.reshape(-1), alien))
            parts.append((ids, shape[axis]))
        rank = len(self.shapes[node.outputs[0]])
        common = [max(ids.shape[a] for ids, _ in parts) for a in range(rank)]
        if int(np.prod(common)) // max(common[axis], 1) * self.shapes[node.outputs[0]][axis] > _MOST_ELEMENTS:
            return self.pin_inputs(node)
        wide = []
        for ids, size in parts:
            target = list(common)
            target[axis] = size
            wide.append(np.broadcast_to(ids, target))
        self.put(node.outputs[0], compressed(np.concatenate(wide, axis)))
        return None


def _table() -> dict[str, Callable[[_Walk, NodeView], None]]:
    work: dict[str, Callable[[_Walk, NodeView], None]] = {}
    for names, function in (
        (CONVS, _Walk.conv), (MATRIX, _Walk.matrix), (_NORMS, _Walk.norm), (_PASSES, _Walk.passes),
        (_POOLS, _Walk.pools), (("Clip",), _Walk.clip), (_REDUCES, _Walk.reduces), (("Pad",), _Walk.pads),
        (_RESHAPES, _Walk.reshapes), (("Transpose",), _Walk.transposes), (_MOVES, _Walk.moves),
        (("Split",), _Walk.splits), (("Expand",), _Walk.expands), (_JOINS, _Walk.joins),
        (("Mul", "Div"), _Walk.multiplies), (("Concat",), _Walk.concats),
    ):  # fmt: skip
        work.update(dict.fromkeys(names, function))
    return work


_WORK = _table()
