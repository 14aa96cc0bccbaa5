"""EltReluFusion, ScaleActivationFusion, ConvReluFusion: a Relu goes into what feeds it."""

from quantbench.predict.net import Net, Op

# 8.4 and 8.5 run EltReluFusion and ScaleActivationFusion before the Q/DQ motions, ConvReluFusion likewise.
_PASS_OF = {"Add": "EltReluFusion", "Sum": "EltReluFusion", "BatchNormalization": "ScaleActivationFusion",
            "Conv": "ConvReluFusion", "ConvTranspose": "DeconvReluFusion", "Gemm": "ConvReluFusion"}  # fmt: skip


def run(net: Net) -> None:
    """Fuse each Relu that is the only reader of an Add, a BatchNormalization or a weighted layer."""
    for op in net.of_kind(*_PASS_OF):
        follower = net.only_reader(op.out)
        if follower is not None and follower.kind == "Relu":
            fuse(net, op, follower, _PASS_OF[op.kind])


def fuse(net: Net, op: Op, relu: Op, name: str) -> None:
    """Fuse `relu` into `op` and record it under the pass `name`."""
    net.step(name, "fuse", op.name, relu.name)
    net.absorb(op, relu, f"{op.name} + {relu.name}")
    op.activation = "Relu"
