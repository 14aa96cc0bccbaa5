"""Tensors that hold the values of others: in another shape or order, or of several together. They need no counting of
their own."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from quantbench.calibration.histogram import Histogram, merge

# Each output element is one input element, and each input element is taken once. MaxPool keeps a maximum but not a
# histogram, so it is none of these.
_REARRANGING = frozenset(
    {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "DepthToSpace", "SpaceToDepth"}
)


def representatives(model: onnx.ModelProto, tensors: Sequence[str]) -> dict[str, str]:
    """For each of `tensors` (in order) the first of them with the same values: itself, mostly."""
    sources = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in _REARRANGING}
    first: dict[str, str] = {}
    found = {}
    for name in tensors:
        root = name
        while root in sources:
            root = sources[root]
        found[name] = first.setdefault(root, name)
    return found


@dataclass(frozen=True, slots=True)
class Sources:
    """What to count (`counted`) so that the histogram of every wanted tensor follows. `same`: for each of them, in
    order, the one with the same values; `sums`: of these, what holds the values of several others, and which."""

    counted: tuple[str, ...]
    same: Mapping[str, str]
    sums: Mapping[str, tuple[str, ...]]

    def all(self, histograms: Mapping[str, Histogram]) -> dict[str, Histogram]:
        """Histograms of the wanted tensors, in order, from those that were counted; exact, as merging is."""

        def of(name: str) -> Histogram:
            source = self.same[name]
            if source in histograms:
                return histograms[source]
            return functools.reduce(merge, [of(part) for part in self.sums[source]])

        return {name: of(name) for name in self.same}


def sources(model: onnx.ModelProto, tensors: Sequence[str]) -> Sources:
    """What to count for `tensors`: a Concat of them and what a Split divides into them follow from their parts."""
    same = representatives(model, tensors)
    representing = dict.fromkeys(same.values())
    sums: dict[str, tuple[str, ...]] = {}
    for node in model.graph.node:
        if node.op_type == "Concat":
            whole, parts = node.output[0], tuple(node.input)
        elif node.op_type == "Split":
            whole, parts = node.input[0], tuple(node.output)
        else:
            continue
        # From a Split on it goes down the network, from a Concat up it and never back, so this ends.
        if whole in representing and whole not in sums and all(part in same for part in parts):
            sums[whole] = parts
    return Sources(tuple(name for name in representing if name not in sums), same, sums)
