"""A network's topology from the parser section of a verbose log, as a GraphView good enough for the simulation.

The log names every node with its inputs, outputs and shapes, but no attribute and no value: which scales are equal is
not in it, nor is the mode of a Resize.
"""

from quantbench.graph.view import GraphView, NodeView, TensorView
from quantbench.inspection.logs.build_log import Build, LogNode

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}


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
    inputs = tuple(dict.fromkeys(t for t in read if t not in made and t not in constants))
    known_readers = set(read)
    # A second output that nobody reads (TopK's values) is no output of the network.
    ends = [n for n in nodes if not any(t in known_readers or t in constants for t in n.outputs)]
    outputs = tuple(t for n in ends for t in n.outputs)
    return GraphView(tuple(nodes), tensors, inputs, outputs)


def _inputs(node: LogNode) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    """Inputs with "" for each `[optional input, not set]`, which the log's brackets glue to the next name."""
    found: list[tuple[str, tuple[int, ...], str]] = []
    for name, dims, dtype in node.inputs:
        *absent, real = name.split("], [")
        found.extend(("", (), "") for _ in absent)
        found.append((real, dims, dtype))
    return tuple(found)
