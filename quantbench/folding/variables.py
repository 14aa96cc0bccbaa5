"""Variables of channels' scales, one a channel that a layer makes, and what of a network hangs on them.

Those of a tensor are an array of their numbers, one an element; axes along which they are the same have length 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantbench.folding.channels import Bound, Channels, Factor, Ids, Maker, Pinned, Reader, components
from quantbench.graph.view import GraphView, NodeView

# Of the array of variables of one tensor.
MOST_ELEMENTS = 1 << 23


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
class Variables:
    """The variables of `model` (its `view`), found so far; `shapes`: of its tensors for one sample. `ids` by tensor;
    `without`: why a tensor has none; `held`: numbers of variables that are pinned; `same`: pairs of one scale."""

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

    def full(self, name: str) -> Ids | None:
        shape = self.shapes[name]
        return np.broadcast_to(self.ids[name], shape) if np.prod(shape, dtype=np.int64) <= MOST_ELEMENTS else None
