"""GraphView: a network as plain data. The placement rules read it; ONNX and torch front ends both produce it.

Ops carry ONNX names and ONNX input order whatever front end made the view, so that one rule set serves both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node. Empty strings stand for absent optional inputs, as in ONNX."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TensorView:
    """What is known of a tensor: shape (None or a string for an unknown dimension; None if the rank is unknown),
    dtype as numpy spells it ("float32"), and whether it is a constant (initializer or folded)."""

    name: str
    shape: tuple[int | str | None, ...] | None = None
    dtype: str = "float32"
    constant: bool = False


@dataclass(frozen=True, slots=True)
class InnerNode:
    """A node in a body of the node `owner` of the main graph (If, Loop, Scan), however deep."""

    owner: str
    node: NodeView


@dataclass(frozen=True)
class GraphView:
    """Nodes in topological order, tensors by name, names of graph inputs and outputs.

    `plugins`: names of nodes whose operator the ONNX standard lacks; `opaque`: those of them that nothing here can run,
    so that no tensor behind them has values. `inner`: nodes in bodies; their names are those of no other node.
    """

    nodes: tuple[NodeView, ...]
    tensors: Mapping[str, TensorView]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    plugins: frozenset[str] = frozenset()
    opaque: frozenset[str] = frozenset()
    inner: tuple[InnerNode, ...] = ()

    @cached_property
    def producers(self) -> dict[str, NodeView]:
        """Tensor name to the node that makes it (none for inputs and constants)."""
        return {out: node for node in self.nodes for out in node.outputs if out}

    @cached_property
    def consumers(self) -> dict[str, tuple[tuple[NodeView, int], ...]]:
        """Tensor name to (node, input index) of everyone who reads it; () for unread tensors. The index of a node whose
        body reads it is -1: no input of the node is it."""
        found: dict[str, list[tuple[NodeView, int]]] = {}
        for node in self.nodes:
            for index, name in enumerate(node.inputs):
                if name:
                    found.setdefault(name, []).append((node, index))
        owners = {node.name: node for node in self.nodes} if self.inner else {}
        for inner in self.inner:
            if (reader := owners.get(inner.owner)) is None:
                continue
            for name in inner.node.inputs:
                if name not in self.producers and name not in self.inputs:
                    continue
                known = found.setdefault(name, [])
                if all(other is not reader for other, _ in known):
                    known.append((reader, -1))
        return {name: tuple(readers) for name, readers in found.items()}

    @cached_property
    def without_values(self) -> dict[str, str]:
        """Each tensor behind an opaque node, which nothing here can compute, and the first such node above it."""
        found: dict[str, str] = {}
        for node in self.nodes if self.opaque else ():
            above = next((found[name] for name in node.inputs if name in found), None)
            source = node.name if node.name in self.opaque else above
            if source is not None:
                found.update((out, source) for out in node.outputs if out)
        return found

    def readers(self, tensor: str) -> tuple[tuple[NodeView, int], ...]:
        """Consumers of `tensor`, () when there are none."""
        return self.consumers.get(tensor, ())

    def is_constant(self, tensor: str) -> bool:
        """Whether `tensor` is a known constant."""
        view = self.tensors.get(tensor)
        return view is not None and view.constant
