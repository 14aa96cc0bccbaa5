"""FCToConvTransform: a Gemm of N,C,1,1 becomes a 1x1 convolution, and the Flatten before it a view."""

from quantbench.graph.ops import SHUFFLES
from quantbench.predict.net import Net

NAME = "FCToConvTransform"


def run(net: Net) -> None:
    """Shown by the A100 engines: Q, then `fc.weight + ... + Gemm` on [N,C,1,1], and no Flatten layer."""
    for op in net.of_kind("Gemm"):
        shuffle = net.producer(op.inputs[0])
        if shuffle is None or shuffle.kind not in SHUFFLES or net.only_reader(shuffle.out) is not op:
            continue
        shape = net.shape(shuffle.inputs[0])
        if shape is not None and len(shape) == 4 and shape[2:] == (1, 1):
            net.step(NAME, "retype", op.name, shuffle.name)
            shuffle.kind = "View"
