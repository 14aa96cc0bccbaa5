"""Motions: where Q and DQ go before any layer takes them.

1. SplitDQAcrossFanOut: a DQ with several readers becomes one DQ a reader, `DQ_clone_0`, `DQ_clone_1` ... in network
   order; later passes match a DQ with one reader only.
2. VanillaSwapWithPreceedingDQ (sic): a DQ moves behind a layer that only moves data (Transpose, Reshape, Slice ...).
3. A DQ moves behind a Relu that parts it from nothing else, where a Q and an INT8 conv stand before it (`conv, Q, DQ,
   Relu`): the Q follows, and conv, Relu and Q meet. Versions: `Version.relu_past_qdq`.
4. HorizontalMergeQNodes: Qs that read one tensor with one scale become one. Which stays: `Version.last_twin_stays`;
   a clone never stays for a Q of the network.
5. SplitQAcrossPrecedingFanIn: a Q behind a Concat is cloned into each branch, `Q_clone_0`, `Q_clone_1` ...
6. VanillaSwapWithFollowingQ: a Q moves before a layer that only moves data and that nothing else reads.
7. DqQFusion: a DQ and a Q of one scale that meet change nothing: both go.

Rules 4 to 6 open the way for one another and run until nothing changes; so logs print them in rounds.

    Conv -> Q -> DQ -> Relu      becomes      Conv -> Relu -> Q -> DQ                    (rule 3)
    Concat(a, b) -> Q            becomes      Concat(a -> Q_clone_0, b -> Q_clone_1)     (rule 5)
"""

from collections.abc import Callable, Hashable

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.predict.net import Net, Op
from quantbench.predict.versions import Version

FAN_OUT = "SplitDQAcrossFanOut"
DQ_FORWARD = "VanillaSwapWithPreceedingDQ"
MERGE = "HorizontalMergeQNodes"
SPLIT = "SplitQAcrossPrecedingFanIn"
Q_BACKWARD = "VanillaSwapWithFollowingQ"
MEET = "DqQFusion"


def run(net: Net, version: Version) -> None:
    """All seven rules, in the order of the logs."""
    for dq in net.of_kind(DEQUANTIZE):
        _clone_per_reader(net, dq)
    for dq in net.of_kind(DEQUANTIZE):
        _follow(net, dq)
    if version.relu_past_qdq:
        for dq in net.of_kind(DEQUANTIZE):
            _past_relu(net, dq)
    changed = True
    while changed:
        merged = merge_twins(net, version.last_twin_stays)
        split = _split_all(net)
        moved = _backward(net)
        changed = merged or split or moved
    _meet(net)


def _clone_per_reader(net: Net, dq: Op) -> list[Op]:
    """Rule 1."""
    readers = net.readers(dq.out)
    if len(readers) < 2 or dq.out in net.outputs:
        return [dq]
    clones = []
    net.step(FAN_OUT, "split-dq", dq.name)
    source, nodes, root = dq.inputs[0], dq.nodes, dq.clone_of or dq.name
    slots = _slots(readers, dq.out)
    net.remove(dq)
    for index, (reader, slot) in enumerate(slots):
        output = f"{dq.out}_clone_{index}"
        net.like(output, dq.out)
        clone = Op(dq.kind, f"{dq.name}_clone_{index}", [source], [output], dq.order + index / 10000, list(nodes),
                   scale=dq.scale, clone_of=root)  # fmt: skip
        net.add(clone)
        for name in (dq.name, clone.name):
            net.note(name, "dq-fan-out")
        net.set_input(reader, slot, output)
        clones.append(clone)
    return clones


def _slots(readers: list[Op], tensor: str) -> list[tuple[Op, int]]:
    """Each reader with the input at which it reads `tensor`; one that reads it twice, with both."""
    found: list[tuple[Op, int]] = []
    for reader in dict.fromkeys(readers):
        found.extend((reader, index) for index, name in enumerate(reader.inputs) if name == tensor)
    return found


def _follow(net: Net, dq: Op) -> None:
    """Rule 2."""
    while (mover := net.only_reader(dq.out)) is not None and net.is_mover(mover) and mover.inputs[0] == dq.out:
        _note_swap(net, DQ_FORWARD, mover, dq)
        exchange(net, dq, mover, like=mover.out)
        dq.order = mover.order + 0.25
        if mover.inputs[0] in net.constants:
            _fold_mover(net, mover)
        clones = _clone_per_reader(net, dq)
        if clones != [dq]:
            for clone in clones:
                _follow(net, clone)
            return


def _fold_mover(net: Net, mover: Op) -> None:
    """A layer that moves data of a constant yields a constant: the transposed INT8 weights of a Linear."""
    net.step("ConstShuffleFusion", "fuse", mover.inputs[0], mover.name)
    made = net.weights.get(mover.inputs[0])
    if made is not None:
        made.name = f"{made.name} + {mover.name}"
        made.nodes.extend(mover.nodes)
        net.weights[mover.out] = made
    net.remove(mover)
    net.constants.update(mover.outputs)


def _past_relu(net: Net, dq: Op) -> None:
    """Rule 3."""
    relu, q = net.only_reader(dq.out), net.producer(dq.inputs[0])
    if relu is None or relu.kind != "Relu" or q is None or not q.is_q or net.only_reader(q.out) is not dq:
        return
    conv = net.producer(q.inputs[0])
    if conv is None or not conv.weighted or net.only_reader(conv.out) is not q:
        return
    makers = [net.producer(t) for t in conv.inputs[:2]]
    if len(makers) < 2 or not all(m is not None and m.is_dq for m in makers):
        return
    net.step(DQ_FORWARD, "swap", relu.name, dq.name)
    exchange(net, dq, relu, like=relu.out)
    net.step(Q_BACKWARD, "swap", relu.name, q.name)
    exchange(net, q, relu, like=relu.out)
    q.order, dq.order = relu.order + 0.2, relu.order + 0.25
    for op in (q, dq):
        net.note(op.name, "relu-past-qdq")


def merge_twins(net: Net, last_stays: bool) -> bool:
    """Rule 4. True if any were merged."""
    merged = False
    groups: dict[tuple[str, Hashable], list[Op]] = {}
    for op in net.of_kind(QUANTIZE):
        groups.setdefault((op.inputs[0], op.scale), []).append(op)
    for twins in groups.values():
        if len(twins) < 2:
            continue
        stays = _survivor(twins, last_stays)
        # The survivor serves the readers of all, so it must stand before the first of them.
        stays.order = min(twin.order for twin in twins)
        for twin in twins:
            if twin is stays or twin.out in net.outputs:
                continue
            net.step(MERGE, "merge", stays.name, twin.name)
            for name in (stays.name, twin.name):
                net.note(name, "twins")
            net.remove(twin)
            net.redirect(twin.out, stays.out)
            merged = True
    return merged


def _survivor(twins: list[Op], last_stays: bool) -> Op:
    pick: Callable[..., Op] = max if last_stays else min
    own = [twin for twin in twins if not twin.clone_of]
    return pick(own or twins, key=lambda op: op.order)


def _split_all(net: Net) -> bool:
    """Rule 5. True if any Q was split."""
    found = False
    for concat in net.of_kind("Concat"):
        q = net.only_reader(concat.out)
        if q is None or not q.is_q:
            continue
        net.step(SPLIT, "split", concat.name, q.name)
        net.remove(q)
        net.set_output(concat, q.out)
        for index, tensor in enumerate(concat.inputs):
            _clone_q(net, concat, q, index, tensor)
        found = True
    return found


def _clone_q(net: Net, concat: Op, q: Op, index: int, tensor: str) -> None:
    output = f"{concat.name}_{tensor}_clone_{index}"
    net.like(output, tensor)
    net.set_input(concat, index, output)
    name = f"{q.name}_clone_{index}"
    net.note(name, "q-split-concat")
    net.notes[name] += [t for t in net.notes.get(q.name, ()) if t not in net.notes[name]]
    # Right before the Concat in network order, behind whatever feeds its branch.
    order = concat.order - 0.5 + index / 1000
    net.add(Op(q.kind, name, [tensor], [output], order, list(q.nodes), scale=q.scale, clone_of=q.clone_of or q.name))


def _backward(net: Net) -> bool:
    """Rule 6, repeated until nothing moves. True if any moved."""
    moved = False
    for q in reversed(net.of_kind(QUANTIZE)):
        while (mover := net.producer(q.inputs[0])) is not None and _may_swap(net, mover, q):
            _note_swap(net, Q_BACKWARD, mover, q)
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


def _meet(net: Net) -> None:
    """Rule 7."""
    for dq in net.of_kind(DEQUANTIZE):
        readers = net.readers(dq.out)
        if dq.inputs[0] in net.constants or dq.out in net.outputs or not readers:
            continue
        for q in readers:
            if q.is_q and q.scale == dq.scale and q.out not in net.outputs:
                net.step(MEET, "cancel", dq.name, q.name)
                for name in (dq.name, q.name):
                    net.note(name, "dq-q-meet")
                net.remove(q)
                _hand_over(net, dq, q)
        if not net.readers(dq.out):
            net.remove(dq)


def _hand_over(net: Net, dq: Op, q: Op) -> None:
    """What `dq` read is now called what `q` wrote (8.6.0 backbone, Concat_754_1303_clone_0)."""
    source = dq.inputs[0]
    maker = net.producer(source)
    if maker is None or source in net.outputs or len(maker.outputs) > 1 or maker.clone_of:
        net.redirect(q.out, source)
        return
    net.set_output(maker, q.out)
    net.redirect(source, q.out)


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


def _note_swap(net: Net, name: str, mover: Op, qdq: Op) -> None:
    """Record that `qdq` moved past `mover` under the pass `name`."""
    net.step(name, "swap", mover.name, qdq.name)
    net.note(qdq.name, f"moves-{mover.kind}")
