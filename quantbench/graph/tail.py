"""What of a network stands behind one of its nodes, as a network of its own: to run it again from there on."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from quantbench.graph.onnx_view import infer_shapes
from quantbench.graph.order import drop_dead
from quantbench.graph.subgraphs import captures
from quantbench.graph.surgery import without_weights


@dataclass(frozen=True, slots=True)
class Cut:
    """A place before node `position` of a sorted graph: the tensors made before that are read behind it, inputs of the
    network among them, and the outputs that are made before it."""

    position: int
    reads: tuple[str, ...]
    made: tuple[str, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """What has to be kept to go on from here."""
        return tuple(dict.fromkeys((*self.reads, *self.made)))


def cuts_at(model: onnx.ModelProto, positions: Sequence[int]) -> list[Cut]:
    """The cuts before each of these nodes of the sorted main graph."""
    nodes = model.graph.node
    stored = {tensor.name for tensor in model.graph.initializer}
    last = {name: place for place, node in enumerate(nodes) for name in (*node.input, *captures(node)) if name}
    first = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    first |= {value.name: -1 for value in model.graph.input if value.name not in stored}
    outputs = [value.name for value in model.graph.output]
    return [
        Cut(
            position,
            tuple(name for name, made in first.items() if made < position <= last.get(name, -1)),
            tuple(name for name in outputs if first.get(name, -1) < position),
        )
        for position in positions
    ]


def tail(model: onnx.ModelProto, cut: Cut) -> onnx.ModelProto:
    """The network behind `cut`: it reads `cut.reads` and returns the outputs that are not in `cut.made`."""
    inferred = infer_shapes(model).graph
    known = {value.name: value for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    result = without_weights(model)
    graph = result.graph
    del graph.node[: cut.position]
    del graph.input[:], graph.value_info[:]
    graph.input.extend(known.get(name) or helper.make_empty_tensor_value_info(name) for name in cut.reads)
    for index in reversed([i for i, value in enumerate(graph.output) if value.name in cut.made]):
        del graph.output[index]
    drop_dead(graph)
    read = {name for node in graph.node for name in (*node.input, *captures(node))}
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    return result
