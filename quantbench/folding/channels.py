"""Channels of a network that can be scaled without changing what it computes, as `quantbench.folding.walk` finds them.

Every channel that a layer makes has a variable, its scale; those that must be alike are of one class, those that must
be 1 are pinned. Classes that meet in one layer are one site.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from quantbench.graph.view import NodeView

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """The constant at input `index` of `node` is multiplied by scale[ids] ** power; `ids` broadcast against it."""

    node: str
    index: int
    ids: Ids
    power: int


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A layer that takes 1 / s into its weight: the node, the tensor it reads, the axis of its channels, their ids
    [C]."""

    node: NodeView
    tensor: str
    axis: int
    ids: Ids


@dataclass(frozen=True, slots=True, eq=False)
class Maker:
    """A node whose constants can scale the channels of its output: ids [C]."""

    node: NodeView
    ids: Ids


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """Channels `ids` of the output `tensor` of a Clip that keeps |x| under `limit`; `axis` of the channels."""

    tensor: str
    axis: int
    ids: Ids
    limit: float


_Entry = TypeVar("_Entry", Maker, Reader, Bound)


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Channels that are scaled together: `classes`, the numbers of their scales; who makes and who reads them."""

    classes: Ids
    makers: tuple[Maker, ...]
    readers: tuple[Reader, ...]
    bounds: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Pinned:
    """The layer `node` could take scales but its input has none to give, for `reason`."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True, eq=False)
class Channels:
    """What was found. `class_of` [variables]: variables of one number have one scale."""

    class_of: Ids
    pinned: Mapping[int, str]
    factors: tuple[Factor, ...]
    makers: tuple[Maker, ...]
    readers: tuple[Reader, ...]
    bounds: tuple[Bound, ...]
    unscaled: tuple[Pinned, ...] = ()

    @property
    def count(self) -> int:
        """How many scales there are."""
        return int(self.class_of.max()) + 1 if len(self.class_of) else 0

    def is_free(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of the variables `ids` can be scaled."""
        return self._free[self.class_of[ids]]

    @cached_property
    def _free(self) -> NDArray[np.bool_]:
        free = np.ones(self.count, np.bool_)
        free[list(self.pinned)] = False
        return free

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """The free classes, those together that meet in one maker or reader, which a layer reads."""
        free = self._free
        ids = [*(maker.ids for maker in self.makers), *(reader.ids for reader in self.readers)]
        met = [classes[free[classes]] for classes in (self.class_of[one] for one in ids)]
        edges = [np.stack([np.full(len(classes) - 1, classes[0]), classes[1:]]) for classes in met if len(classes) > 1]
        labels = components(edges, self.count)

        def place(ids: Ids) -> int:
            classes = self.class_of[ids]
            return int(labels[classes[free[classes]][0]]) if free[classes].any() else -1

        makers, readers, bounds = (
            _by_place(self.makers, place), _by_place(self.readers, place), _by_place(self.bounds, place),
        )  # fmt: skip
        return tuple(
            Site(np.flatnonzero((labels == label) & free), makers.get(label, ()), found, bounds.get(label, ()))
            for label, found in readers.items()
            if label >= 0
        )

    @cached_property
    def refused(self) -> tuple[Pinned, ...]:
        """Each layer all of whose input channels are pinned, with the first reason."""
        found = list(self.unscaled)
        for reader in self.readers:
            if not self.is_free(reader.ids).any():
                found.append(Pinned(reader.node.name, reader.node.op, self.pinned[int(self.class_of[reader.ids[0]])]))
        return tuple(found)


def _by_place(entries: Iterable[_Entry], place: Callable[[Ids], int]) -> dict[int, tuple[_Entry, ...]]:
    found: dict[int, list[_Entry]] = {}
    for entry in entries:
        found.setdefault(place(entry.ids), []).append(entry)
    return {label: tuple(those) for label, those in found.items()}


def components(edges: list[NDArray[np.int64]], count: int) -> Ids:
    """The component of each of `count` numbers, where `edges` [2, n] join two each; components are numbered as they
    come. Not scipy's, whose import takes longer than all else here."""
    rows, columns = np.concatenate(edges, axis=1) if edges else np.zeros((2, 0), np.int64)
    least = np.arange(count)
    while True:
        # Each number points to one of its component that is no greater: over each edge, from where it points, and on.
        ends = least[rows], least[columns]
        low = np.minimum(*ends)
        lower = least.copy()
        for places in (rows, columns, *ends):
            np.minimum.at(lower, places, low)
        lower = lower[lower]
        if np.array_equal(lower, least):
            return np.unique(least, return_inverse=True)[1].astype(np.int64)
        least = lower
