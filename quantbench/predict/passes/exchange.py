"""What both swaps do: two layers that follow one another change places."""

from quantbench.graph.ops import SWAPS_SHOWN
from quantbench.predict.net import Net, Op


def exchange(net: Net, first: Op, second: Op, like: str) -> None:
    """`a -first-> b -second-> c` becomes `a -second-> b -first-> c`.

    Tensor b keeps its name, as in the logs, and has from now on the shape and dtype of tensor `like`.
    """
    source, between, result = first.inputs[0], first.out, second.out
    net.like(between, like)
    net.set_output(first, result)
    net.set_input(second, 0, source)
    net.set_output(second, between)
    net.set_input(first, 0, between)


def note_swap(net: Net, name: str, mover: Op, qdq: Op) -> None:
    """Record that `qdq` moved past `mover` under the pass `name`, and that it is a guess where nothing shows it."""
    net.step(name, "swap", mover.name, qdq.name)
    if mover.kind not in SWAPS_SHOWN:
        net.guess(qdq.name, f"{qdq.short} moves past {mover.kind}: by NVIDIA's guide, no log at hand shows it")
