"""GenericConvActFusion: a pointwise activation (Clip, LeakyRelu, SiLU) goes into the conv that feeds it."""

from quantbench.graph.ops import CONVS
from quantbench.predict.net import Net, Op
from quantbench.predict.passes.conv_scale import has_quantized_weights
from quantbench.predict.passes.pointwise import POINTWISE

NAME = "GenericConvActFusion"


def run(net: Net) -> None:
    """Fuse each one-input PWN that is the only reader of a conv.

    SiLU goes into quantized convs only, and not into depthwise ones, whose kernel has no room for it (NVIDIA's answer
    in NVIDIA/TensorRT issue 3205); 3542 and 3861 tell that it goes into others, most of the time.
    """
    for op in net.of_kind(*CONVS):
        act = net.only_reader(op.out)
        if act is None or act.kind != POINTWISE or op.activation:
            continue
        live = [t for t in act.inputs if t not in net.constants]
        silu = act.activation == "SiLU"
        if live != [op.out] or (silu and (_depthwise(net, op) or not has_quantized_weights(net, op))):
            continue
        net.step(NAME, "fuse", op.name, act.name)
        net.absorb(op, act, f"{op.name} + {act.name}")
        op.activation = act.activation or "PWN"
        if silu:
            op.guess = "whether SiLU goes into the conv: no log at hand shows it"


def _depthwise(net: Net, op: Op) -> bool:
    group = op.attributes.get("group", 1)
    shape = net.shape(op.inputs[0])
    return isinstance(group, int) and group > 1 and shape is not None and len(shape) > 1 and shape[1] == group
