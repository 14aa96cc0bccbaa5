"""What logs call "constant fold dangling QDQ": a DQ of constants that no layer took becomes a float constant."""

from quantbench.graph.ops import DEQUANTIZE
from quantbench.predict.net import Net

NAME = "constant fold dangling QDQ"


def run(net: Net) -> None:
    """Fold each DQ of a constant that is still read (biases, weights of layers that compute in float)."""
    for dq in net.of_kind(DEQUANTIZE):
        if dq.inputs[0] in net.constants and dq.out not in net.outputs:
            net.step(NAME, "fold", dq.out, dq.name)
            net.remove(dq)
            net.constants.add(dq.out)
            net.folded.add(dq.out)
