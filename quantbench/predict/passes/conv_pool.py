"""ConvActPoolFusion: an INT8 stem conv with its Relu takes the MaxPool behind it."""

from quantbench.predict.net import Net

NAME = "ConvActPoolFusion"
_STEM_CHANNELS = 4


def run(net: Net) -> None:
    """Shown by the A100 resnet-qat-residual engine (Conv_9 + MaxPool_12, 3 input channels); elsewhere not seen."""
    for op in net.of_kind("Conv"):
        pool = net.only_reader(op.out)
        shape = net.shape(op.inputs[0])
        if pool is None or pool.kind != "MaxPool" or not (op.int8_in and op.int8_out and op.activation == "Relu"):
            continue
        if shape is not None and len(shape) == 4 and isinstance(shape[1], int) and shape[1] <= _STEM_CHANNELS:
            net.step(NAME, "fuse", op.name, pool.name)
            net.absorb(op, pool, f"{op.name} + {pool.name}")
