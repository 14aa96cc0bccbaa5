"""Tidying what torch's exporter leaves: names that say where a node comes from, no traces of the exporting machine."""

import onnx


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` whose nodes and tensors are named after the module whose weights they follow.

    A node with weights `a.b.weight` becomes `a.b`, the Clip after it `a.b/Clip`; tensors are called after the node
    that makes them. Metadata and doc strings (stack traces with local paths) are dropped, so that equal weights give
    equal bytes. Graph inputs, outputs and initializers keep their names.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    weights = {initializer.name for initializer in graph.initializer}
    kept = {value.name for value in (*graph.input, *graph.output)} | weights
    renamed: dict[str, str] = {}
    taken: dict[str, int] = {}
    module = ""
    for node in graph.node:
        named = [name for name in node.input if name in weights and name.endswith(".weight")]
        module = named[0].removesuffix(".weight") if named else module
        node.name = _unique(module if named else f"{module}/{node.op_type}", taken)
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for position, name in enumerate(node.output):
            if name and name not in kept:
                renamed[name] = f"{node.name}.out" + (str(position) if position else "")
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)
    for part in (copy, graph, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return copy


def _unique(name: str, taken: dict[str, int]) -> str:
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}_{taken[name]}"
