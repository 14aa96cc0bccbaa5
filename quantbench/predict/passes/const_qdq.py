"""ConstQDQInitializersFusion: scale and zero-point constants go into each Q and DQ."""

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.predict.net import Net

NAME = "ConstQDQInitializersFusion"


def run(net: Net) -> None:
    """Only a record: the Net keeps scales in its Q and DQ from the start."""
    for op in net.of_kind(QUANTIZE, DEQUANTIZE):
        net.step(NAME, "fuse", op.name)
