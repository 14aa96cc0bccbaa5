"""QConvScaleFusion, ConvScaleFusion: a scale behind a weighted layer goes into it.

A scale is a BatchNormalization (with its Relu), or a Mul or Add by constants of one value or one a channel, which
ConstEltFusion makes a scale of (trt852 log, layer2.0.downsample.1).
"""

from quantbench.graph.ops import CONVS, MATRIX, WEIGHTED
from quantbench.predict.net import Net, Op

_RANK = 4


def run(net: Net) -> None:
    """Fuse each scale that is the only reader of a weighted layer. Its name leaves no trace in the layer's.

    Not into a quantized ConvTranspose: NVIDIA/TensorRT issue 3412.
    """
    for op in net.of_kind(*WEIGHTED):
        quantized = has_quantized_weights(net, op)
        if op.kind == "ConvTranspose" and quantized:
            continue
        while not op.activation and (scale := net.only_reader(op.out)) is not None and _is_scale(net, op, scale):
            if scale.kind != "BatchNormalization":
                constant = next(t for t in scale.inputs if t in net.constants)
                net.step("ConstEltFusion", "fuse", constant, scale.name)
                op.guess = op.guess or "a Mul or Add by constants goes into the layer before it"
            net.step("QConvScaleFusion" if quantized else "ConvScaleFusion", "remove", op.name, scale.name)
            net.absorb(op, scale)
            op.activation = scale.activation


def _is_scale(net: Net, op: Op, follower: Op) -> bool:
    if follower.kind == "BatchNormalization":
        return op.kind in CONVS
    if follower.kind not in ("Mul", "Add") or len(follower.inputs) != 2:
        return False
    constant = next((t for t in follower.inputs if t in net.constants), "")
    shape = net.shape(constant) if constant else None
    if shape is None:
        return False
    sizes = [d for d in shape if d != 1]
    if op.kind in MATRIX:
        return not sizes or (len(sizes) == 1 and shape[-1] == sizes[0])
    # One a channel: [C, 1, 1] or [1, C, 1, 1].
    return not sizes or (len(sizes) == 1 and len(shape) >= _RANK - 1 and shape[-3] == sizes[0])


def has_quantized_weights(net: Net, op: Op) -> bool:
    """Whether the weights of `op` come through a DQ."""
    maker = net.producer(op.inputs[1]) if len(op.inputs) > 1 else None
    return maker is not None and maker.is_dq
