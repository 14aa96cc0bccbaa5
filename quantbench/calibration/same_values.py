"""Tensors that hold the same values in another shape or order, so that one histogram serves all of them."""

from collections.abc import Sequence

import onnx

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
