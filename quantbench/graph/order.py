"""Nodes in an order in which each stands behind what it reads; what nobody reads is left out, a cycle refused."""

import onnx

from quantbench.errors import QuantbenchError
from quantbench.graph.subgraphs import captures


def order_of(nodes: list[onnx.NodeProto]) -> list[int]:
    """Positions of `nodes` sorted, changing as little as can be. Raises QuantbenchError naming the nodes of a cycle,
    and for a tensor that two write.

    onnxruntime loads files whose nodes are not sorted, and tools write them (onnxconverter-common's FP16 pass); the
    standard and all who walk the nodes once want them sorted.
    """
    _refuse_twice(nodes)
    makers = {out: position for position, node in enumerate(nodes) for out in node.output if out}
    reads = [[makers[name] for name in (*node.input, *captures(node)) if name in makers] for node in nodes]
    ordered: dict[int, None] = {}
    for start in range(len(nodes)):
        waiting, open_ = [start], {start}
        while waiting:
            position = waiting[-1]
            missing = [] if position in ordered else [p for p in reads[position] if p not in ordered]
            if not missing:
                ordered[waiting.pop()] = None
                open_.discard(position)
                continue
            if missing[0] in open_:
                raise QuantbenchError(f"the model has a cycle: {_names(nodes, waiting, missing[0])}; export it again")
            waiting.append(missing[0])
            open_.add(missing[0])
    return list(ordered)


def _refuse_twice(nodes: list[onnx.NodeProto]) -> None:
    made: set[str] = set()
    for node in nodes:
        for name in node.output:
            if name in made:
                raise QuantbenchError(f"two nodes write tensor {name!r}; export the model again")
            if name:
                made.add(name)


def _names(nodes: list[onnx.NodeProto], path: list[int], first: int) -> str:
    ring = path[path.index(first) :]
    names = [nodes[p].name or f"{nodes[p].op_type}_{p}" for p in ring]
    shown = names if len(names) <= 4 else [*names[:3], "..."]
    return f"node {shown[0]} reads what comes of it" if len(names) == 1 else f"{' -> '.join([*shown, names[0]])}"


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort the nodes of `graph` and of the bodies in it, in place. Raises QuantbenchError as `order_of`."""
    ordered = order_of(list(graph.node))
    if ordered != sorted(ordered):
        copies = [onnx.NodeProto.FromString(graph.node[position].SerializeToString()) for position in ordered]
        del graph.node[:]
        graph.node.extend(copies)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                sort_nodes(attribute.g)


def drop_dead(graph: onnx.GraphProto) -> int:
    """Remove the nodes of the sorted `graph` that lead to no output, and the constants that only they read, in place.

    Compilers do so before anything else; planned and counted they would be layers that no engine has. Returns how many
    nodes went.
    """
    needed = {value.name for value in graph.output}
    listed = {value.name for value in graph.input}
    dead = []
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if any(out in needed for out in node.output):
            needed.update((*node.input, *captures(node)))
        else:
            dead.append(index)
    for index in dead:
        del graph.node[index]
    if dead:
        for index in reversed([i for i, tensor in enumerate(graph.initializer) if tensor.name not in needed | listed]):
            del graph.initializer[index]
    return len(dead)
