"""What a calibration cache means for a network under TensorRT's implicit quantization.

Tensors on both sides of a data mover (MaxPool, Reshape …) and around a Concat share a range, so one that the cache
lacks follows from the others; the output of an averaging pool is covered by the range of its input. The caches in
tests/data/artefacts/calib show it: MaxPool, Padding and Shuffle carry the value of their inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from quantbench.cache.activations import activations, superseded
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.graph.ops import AVERAGES
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.ops import is_mover


@dataclass(frozen=True, slots=True)
class Derived:
    """A range that the cache does not hold: `tensor` takes that of `source` because of node `through`."""

    tensor: str
    source: str
    through: str


@dataclass(frozen=True, slots=True)
class Meaning:
    """`ranges` holds what the cache says and what follows from it, by tensor of the network in topological order.

    `superseded` maps tensors inside fused layers to the layer's output; `missing` are float tensors with no range
    that TensorRT would want one for.
    """

    ranges: Ranges
    derived: tuple[Derived, ...]
    superseded: Mapping[str, str]
    missing: tuple[str, ...]


def meaning(view: GraphView, known: Mapping[str, TensorRange]) -> Meaning:
    """Complete `known` (ranges by tensor of `view`) as implicit quantization does, and say what is still missing."""
    ranges = dict(known)
    derived: list[Derived] = []
    while new := _derive(view, ranges):
        for item in new:
            if item.tensor not in ranges:
                ranges[item.tensor] = ranges[item.source]
                derived.append(item)
    swallowed = superseded(view)
    names = activations(view)
    return Meaning(
        Ranges({name: ranges[name] for name in names if name in ranges}),
        tuple(derived),
        swallowed,
        tuple(name for name in names if name not in ranges and name not in swallowed),
    )


def _derive(view: GraphView, ranges: Mapping[str, TensorRange]) -> list[Derived]:
    """Ranges that follow in one step."""
    found = []
    for node in view.nodes:
        if node.op == "Concat":
            found += _around_concat(view, node, ranges)
        elif is_mover(node) and not view.is_constant(node.inputs[0]):
            source = node.inputs[0]
            for out in filter(None, node.outputs):
                if source in ranges and out not in ranges:
                    found.append(Derived(out, source, node.name))
                elif out in ranges and source not in ranges and len(node.outputs) == 1:
                    found.append(Derived(source, out, node.name))
        elif node.op in AVERAGES and node.inputs[0] in ranges and node.outputs[0] not in ranges:
            found.append(Derived(node.outputs[0], node.inputs[0], node.name))
    return found


def _around_concat(view: GraphView, node: NodeView, ranges: Mapping[str, TensorRange]) -> list[Derived]:
    """The output covers every input; the inputs cover the output only when all of them are known."""
    out = node.outputs[0]
    inputs = [name for name in node.inputs if name and not view.is_constant(name)]
    if out in ranges:
        return [Derived(name, out, node.name) for name in inputs if name not in ranges]
    if inputs and all(name in ranges for name in inputs):
        return [Derived(out, max(inputs, key=lambda name: ranges[name].amax), node.name)]
    return []
