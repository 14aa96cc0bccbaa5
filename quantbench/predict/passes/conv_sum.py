"""ConvEltwiseSumFusion: an Add goes into a conv that feeds it; the other input becomes the conv's residual input."""

from quantbench.graph.ops import CONVS
from quantbench.predict.net import Net, Op

NAME = "ConvEltwiseSumFusion"


def run(net: Net) -> None:
    """Of two convs the later one takes the Add: it runs when the other's result is there."""
    for add in net.of_kind("Add", "Sum"):
        if len(add.inputs) != 2 or add.int8_in or not net.same_shape(add.inputs[0], add.inputs[1]):
            continue
        makers = [net.producer(t) for t in add.inputs]
        convs = [c for c in makers if c is not None and _may_take(net, c, add)]
        if convs:
            _fuse(net, max(convs, key=lambda op: op.order), add)


def _may_take(net: Net, conv: Op, add: Op) -> bool:
    return (
        conv.kind in CONVS
        and not conv.activation
        and not conv.int8_out
        and not conv.residual
        and net.only_reader(conv.out) is add
        and all(t not in net.constants for t in add.inputs)
    )


def _fuse(net: Net, conv: Op, add: Op) -> None:
    other = next(t for t in add.inputs if t != conv.out)
    net.step(NAME, "fuse", conv.name, add.name)
    net.absorb(conv, add, f"{conv.name} + {add.name}")
    net.add_input(conv, other)
    conv.residual, conv.activation, conv.order = other, add.activation, add.order
