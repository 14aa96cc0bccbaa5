"""VanillaSwapWithFollowingQ: a Q moves before a layer that only moves data (Slice, Resize, MaxPool, Flatten ...)."""

from quantbench.graph.ops import QUANTIZE
from quantbench.predict.net import Net, Op
from quantbench.predict.passes.exchange import exchange, note_swap

NAME = "VanillaSwapWithFollowingQ"


def run(net: Net) -> bool:
    """Swap every mover with the Q that is its only reader; repeated until nothing moves. True if any moved."""
    moved = False
    for q in reversed(net.of_kind(QUANTIZE)):
        while (mover := net.producer(q.inputs[0])) is not None and _may_swap(net, mover, q):
            note_swap(net, NAME, mover, q)
            exchange(net, mover, q, like=mover.inputs[0])
            q.order = mover.order - 0.25
            moved = True
    return moved


def _may_swap(net: Net, mover: Op, q: Op) -> bool:
    return (
        net.is_mover(mover)
        and net.only_reader(q.inputs[0]) is q
        and bool(mover.inputs)
        and mover.inputs[0] not in net.constants
    )
