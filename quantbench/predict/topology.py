"""A network's topology from the parser section of a verbose log, as a GraphView good enough for the simulation.

The log names every node with its inputs, outputs and shapes, but no attribute and no value: the mode of a Resize is not
in it, nor are scales. Which scales are equal is concluded from names and from what the optimizer did (`scales_of_log`).
"""

from collections.abc import Hashable

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.graph.view import GraphView, NodeView, TensorView
from quantbench.inspection.logs.build_log import Build, LogNode
from quantbench.layers.names import strip_clone

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "INT32": "int32",
           "INT64": "int64", "BOOL": "bool", "UINT8": "uint8"}  # fmt: skip


def view_from_log(build: Build) -> GraphView:
    """GraphView of the nodes that the parser logged; empty where the log was written without the verbose parser."""
    tensors: dict[str, TensorView] = {}
    nodes: list[NodeView] = []
    made: set[str] = set()
    read: list[str] = []
    constants = set(build.initializers)
    for logged in build.nodes.values():
        node = LogNode(logged.name, logged.op, _inputs(logged), logged.outputs)
        for name, dims, dtype in (*node.inputs, *node.outputs):
            if not name:
                continue
            shape = tuple(d if d >= 0 else None for d in dims)
            tensors[name] = TensorView(name, shape, _DTYPES.get(dtype, dtype.lower()))
        nodes.append(NodeView(node.name, node.op, tuple(t[0] for t in node.inputs), tuple(t[0] for t in node.outputs)))
        made.update(t[0] for t in node.outputs)
        read.extend(t[0] for t in node.inputs if t[0])
        if node.op == "Constant" or (node.inputs and all(t[0] in constants for t in node.inputs)):
            constants.update(t[0] for t in node.outputs)
    for name in constants:
        known = tensors.get(name, TensorView(name))
        tensors[name] = TensorView(name, known.shape, known.dtype, constant=True)
    loose = tuple(dict.fromkeys(t for t in read if t not in made and t not in constants))
    inputs = tuple(t for t in build.network_inputs if t in loose) or loose
    outputs = tuple(t for t in build.network_outputs if t in made)
    return GraphView(tuple(nodes), tensors, inputs, outputs or _ends(nodes, set(read), constants))


def _ends(nodes: list[NodeView], read: set[str], constants: set[str]) -> tuple[str, ...]:
    """Where the log marks no outputs. A second output that nobody reads (TopK's values) is none of the network."""
    ends = [n for n in nodes if not any(t in read or t in constants for t in n.outputs)]
    return tuple(t for n in ends for t in n.outputs)


def _inputs(node: LogNode) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    """Inputs with "" for each `[optional input, not set]`, which the log's brackets glue to the next name."""
    found: list[tuple[str, tuple[int, ...], str]] = []
    for name, dims, dtype in node.inputs:
        *absent, real = name.split("], [")
        found.extend(("", (), "") for _ in absent)
        found.append((real, dims, dtype))
    return tuple(found)


def scales_of_log(view: GraphView, build: Build) -> dict[str, Hashable]:
    """Q or DQ to a key of its scale, as far as the log tells which are equal.

    Equal are: Qs whose scale is one tensor; Qs that the log says were merged; Qs of one tensor, unless the log tells of
    both further on (each taken by a layer or left over), which two of one scale cannot be. So of merges only which Q
    stays is predicted from a log, not that they happen.
    """
    scales = _Classes()
    survivors = _survivors(build)
    by_tensor: dict[str, str] = {}
    for node in view.nodes:
        if node.op != QUANTIZE or view.is_constant(node.inputs[0]):
            continue
        scales.join(node.name, f"scale {node.inputs[1]}" if len(node.inputs) > 1 else node.name)
        twin = by_tensor.setdefault(node.inputs[0], node.name)
        if twin in survivors and node.name in survivors:
            continue
        scales.join(node.name, twin)
    for event in build.passes:
        if event.kind == "duplicate" and event.fields.get("sort") == "Q":
            scales.join(strip_clone(str(event.fields["layer"])), strip_clone(str(event.fields["twin"])))
    keys: dict[str, Hashable] = {}
    for node in view.nodes:
        if node.op == QUANTIZE and not view.is_constant(node.inputs[0]):
            keys[node.name] = ("scale", scales.root(node.name))
        elif node.op == DEQUANTIZE and (maker := view.producers.get(node.inputs[0])) is not None and maker.name in keys:
            keys[node.name] = keys[maker.name]
    return keys


def _survivors(build: Build) -> set[str]:
    """Qs, clones under the name of what they are clones of, that a layer took or that became a copy."""
    found: set[str] = set()
    for event in build.passes:
        if event.kind == "quantize-fuse":
            nodes = event.fields.get("nodes", ())
            assert isinstance(nodes, tuple)
            found.update(strip_clone(str(name)) for name in nodes)
        elif event.kind == "retype" and event.fields.get("to") == "kQDQ":
            found.add(strip_clone(str(event.fields["layer"])))
    return found


class _Classes:
    """Classes of names that are equal (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        while (parent := self._parent.setdefault(name, name)) != name:
            name = parent
        return name

    def join(self, first: str, second: str) -> None:
        self._parent[self.root(first)] = self.root(second)
