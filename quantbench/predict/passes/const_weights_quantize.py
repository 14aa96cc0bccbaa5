"""ConstWeightsQuantizeFusion: constant weights and their Q become an INT8 constant `W + Q`."""

from quantbench.graph.ops import QUANTIZE
from quantbench.predict.net import Net

NAME = "ConstWeightsQuantizeFusion"


def run(net: Net) -> None:
    """Replace every Q of a constant by a constant of the same name as TensorRT gives it."""
    for op in net.of_kind(QUANTIZE):
        weight = op.inputs[0]
        if weight not in net.constants:
            continue
        net.step(NAME, "fuse", weight, op.name)
        net.remove(op)
        op.name = f"{weight} + {op.name}"
        net.weights[op.out] = op
        net.constants.add(op.out)
