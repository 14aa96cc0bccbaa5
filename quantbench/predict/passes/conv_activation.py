"""GenericConvActFusion: a pointwise activation (Clip, LeakyRelu, SiLU) goes into the conv that feeds it."""

from quantbench.predict.net import Net
from quantbench.predict.passes.conv_scale import has_quantized_weights
from quantbench.predict.passes.pointwise import POINTWISE

NAME = "GenericConvActFusion"


def run(net: Net) -> None:
    """Fuse each one-input PWN that is the only reader of a conv. SiLU goes into quantized convs only (a guess)."""
    for op in net.of_kind("Conv", "ConvTranspose"):
        act = net.only_reader(op.out)
        if act is None or act.kind != POINTWISE or op.activation:
            continue
        live = [t for t in act.inputs if t not in net.constants]
        silu = act.activation == "SiLU"
        if live != [op.out] or (silu and not has_quantized_weights(net, op)):
            continue
        net.step(NAME, "fuse", op.name, act.name)
        net.absorb(op, act, f"{op.name} + {act.name}")
        op.activation = act.activation or "PWN"
        if silu:
            op.guess = "whether SiLU goes into the conv: no log at hand shows it"
