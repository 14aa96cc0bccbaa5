"""ActivationToPointwiseConversion and PointWiseFusion: activations and elementwise chains become PWN layers."""

from quantbench.graph.ops import ACTIVATIONS, ARITHMETIC
from quantbench.predict.net import Net, Op

# Erf stands for the GELU around it.
_LONE = ACTIVATIONS - {"Relu"} | {"Erf"}
POINTWISE = "Pointwise"


def run(net: Net) -> None:
    """SiLU first (it is a chain that closes on itself), then lone activations, then chains."""
    for sigmoid in net.of_kind("Sigmoid", "HardSigmoid"):
        _fuse_silu(net, sigmoid)
    for op in net.of_kind(*_LONE):
        net.step("ActivationToPointwiseConversion", "retype", op.name)
        op.kind, op.name = POINTWISE, f"PWN({op.name})"
    for op in net.ops:
        _fuse_chain(net, op)


def _fuse_silu(net: Net, sigmoid: Op) -> None:
    """x * sigmoid(x): both read x, and the Mul alone reads the sigmoid."""
    mul = net.only_reader(sigmoid.out)
    if mul is None or mul.kind != "Mul" or sigmoid.inputs[0] not in mul.inputs:
        return
    net.step("PointWiseFusion", "fuse", f"PWN({sigmoid.name})", f"PWN({mul.name})")
    net.absorb(sigmoid, mul, f"PWN(PWN({sigmoid.name}), PWN({mul.name}))")
    sigmoid.kind, sigmoid.activation = POINTWISE, "SiLU"


def _fuse_chain(net: Net, op: Op) -> None:
    while op in net and _chainable(net, op):
        follower = net.only_reader(op.out)
        if follower is None or not _chainable(net, follower) or follower.activation == "SiLU":
            return
        net.step("PointWiseFusion", "fuse", op.name, follower.name)
        others = [t for t in follower.inputs if t != op.out]
        net.absorb(op, follower, f"PWN({op.name}, {follower.name})")
        for tensor in others:
            net.add_input(op, tensor)
        op.kind, op.order = POINTWISE, follower.order


def _chainable(net: Net, op: Op) -> bool:
    """Elementwise on floats; an Add of a weighted layer waits for ConvEltwiseSumFusion."""
    if op.kind not in ARITHMETIC and op.kind != POINTWISE:
        return False
    for tensor in op.inputs:
        maker = net.producer(tensor)
        if maker is not None and (maker.is_dq or maker.weighted or maker.kind == "BatchNormalization"):
            return False
    return True
