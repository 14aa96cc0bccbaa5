"""QConvScaleFusion, ConvScaleFusion: a BatchNormalization (with its Relu) goes into the conv that feeds it."""

from quantbench.predict.net import Net, Op


def run(net: Net) -> None:
    """Fuse each BatchNormalization that is the only reader of a conv. Its name leaves no trace in the conv's.

    Not into a quantized ConvTranspose: NVIDIA/TensorRT issue 3412.
    """
    for op in net.of_kind("Conv", "ConvTranspose"):
        scale = net.only_reader(op.out)
        if scale is None or scale.kind != "BatchNormalization" or op.activation:
            continue
        if op.kind == "ConvTranspose" and has_quantized_weights(net, op):
            continue
        net.step("QConvScaleFusion" if has_quantized_weights(net, op) else "ConvScaleFusion", "remove", op.name,
                 scale.name)  # fmt: skip
        net.absorb(op, scale)
        op.activation = scale.activation


def has_quantized_weights(net: Net, op: Op) -> bool:
    """Whether the weights of `op` come through a DQ."""
    maker = net.producer(op.inputs[1]) if len(op.inputs) > 1 else None
    return maker is not None and maker.is_dq
