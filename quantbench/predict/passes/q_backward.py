"""VanillaSwapWithFollowingQ: a Q moves before a layer that only moves data (Slice, Resize, MaxPool, Flatten ...)."""

from quantbench.predict.net import QUANTIZE, Net, Op

NAME = "VanillaSwapWithFollowingQ"


def run(net: Net) -> bool:
    """Swap every mover with the Q that is its only reader; repeated until nothing moves. True if any moved."""
    moved = False
    for q in reversed(net.of_kind(QUANTIZE)):
        while (mover := net.producer(q.inputs[0])) is not None and _may_swap(net, mover, q):
            swap(net, mover, q)
            moved = True
    return moved


def _may_swap(net: Net, mover: Op, q: Op) -> bool:
    return (
        net.is_mover(mover)
        and net.only_reader(q.inputs[0]) is q
        and bool(mover.inputs)
        and mover.inputs[0] not in net.constants
    )


def swap(net: Net, mover: Op, q: Op) -> None:
    """`a -mover-> b -Q-> c` becomes `a -Q-> b -mover-> c`: tensor b keeps its name, as in the logs."""
    net.step(NAME, "swap", mover.name, q.name)
    source, between, result = mover.inputs[0], mover.out, q.out
    net.like(between, source)
    net.set_output(mover, result)
    net.set_input(q, 0, source)
    net.set_output(q, between)
    net.set_input(mover, 0, between)
    q.order = mover.order - 0.25
