"""VanillaSwapWithPreceedingDQ: a DQ moves behind a layer that only moves data; a shared DQ is first cloned."""

from quantbench.graph.ops import DEQUANTIZE
from quantbench.predict.net import Net, Op
from quantbench.predict.passes.exchange import exchange, note_swap

NAME = "VanillaSwapWithPreceedingDQ"
_CLONED = "a DQ with several readers counts as one DQ a reader: no log at hand shows how"


def run(net: Net) -> None:
    """One DQ per reader, then each past the movers that read it, and away where a Q of the same scale follows."""
    for dq in net.of_kind(DEQUANTIZE):
        _clone_per_reader(net, dq)
    for dq in net.of_kind(DEQUANTIZE):
        _follow(net, dq)


def _follow(net: Net, dq: Op) -> None:
    while (mover := net.only_reader(dq.out)) is not None and net.is_mover(mover) and mover.inputs[0] == dq.out:
        note_swap(net, NAME, mover, dq)
        exchange(net, dq, mover, like=mover.out)
        dq.order = mover.order + 0.25
        for clone in _clone_per_reader(net, dq)[1:]:
            _follow(net, clone)


def cancel(net: Net) -> None:
    """A Q right behind a DQ of the same scale changes nothing: both go."""
    for dq in net.of_kind(DEQUANTIZE):
        readers = net.readers(dq.out)
        if dq.inputs[0] in net.constants or dq.out in net.outputs or not readers:
            continue
        for q in readers:
            if q.is_q and q.scale == dq.scale and q.out not in net.outputs:
                net.step("QDQCancel", "fuse", dq.name, q.name)
                for name in (dq.name, q.name):
                    net.guess(name, "a Q right behind a DQ of its scale goes with it: no log at hand shows it")
                net.remove(q)
                net.redirect(q.out, dq.inputs[0])
        if not net.readers(dq.out):
            net.remove(dq)


def _clone_per_reader(net: Net, dq: Op) -> list[Op]:
    """TensorRT's rules match a DQ with one reader, so a DQ with several must be several."""
    readers = net.readers(dq.out)
    if len(readers) < 2 or dq.out in net.outputs:
        return [dq]
    same = [dq]
    net.guess(dq.name, _CLONED)
    for index, reader in enumerate(readers[1:], start=1):
        name = f"{dq.name}_clone_{index}"
        output = f"{dq.out}_clone_{index}"
        net.like(output, dq.out)
        clone = Op(dq.kind, name, [dq.inputs[0]], [output], dq.order + index / 10000, list(dq.nodes),
                   scale=dq.scale, clone_of=dq.clone_of or dq.name)  # fmt: skip
        slot = max(i for i, t in enumerate(reader.inputs) if t == dq.out)
        net.add(clone)
        net.guess(name, _CLONED)
        net.set_input(reader, slot, output)
        same.append(clone)
    return same
