"""QDQToCopy: what no layer took becomes a Reformat with `Origin: QDQ`, a kernel of its own."""

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.predict.net import Net

NAME = "QDQToCopy"


def run(net: Net) -> None:
    """Record every Q and DQ that is left; they stay in the Net and become Reformat layers."""
    for op in net.of_kind(QUANTIZE, DEQUANTIZE):
        net.step(NAME, "copy", op.name)
