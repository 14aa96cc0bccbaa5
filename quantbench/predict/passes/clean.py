"""Clean-up: dead layers, identities, and shuffles that follow one another."""

from quantbench.graph.ops import IDENTITIES, SHUFFLES
from quantbench.predict.net import Net, Op


def run(net: Net) -> None:
    """ShuffleErasure of identities, dead-layer removal, ShuffleShuffleFusion."""
    for op in net.of_kind(*IDENTITIES):
        if op.out not in net.outputs:
            net.step("ShuffleErasure", "remove", op.name)
            net.remove(op)
            net.redirect(op.out, op.inputs[0])
    remove_dead(net)
    for op in net.of_kind(*SHUFFLES):
        _fuse_shuffles(net, op)


def remove_dead(net: Net) -> None:
    """Take out ops whose outputs nobody reads and the network does not return."""
    waiting = net.ops[::-1]
    while waiting:
        op = waiting.pop(0)
        if op not in net or any(net.readers(o) or o in net.outputs for o in op.outputs):
            continue
        net.remove(op)
        waiting.extend(p for p in map(net.producer, op.inputs) if p is not None)


def _fuse_shuffles(net: Net, op: Op) -> None:
    while op in net:
        follower = net.only_reader(op.out)
        if follower is None or follower.kind not in SHUFFLES or op.kind not in SHUFFLES:
            return
        net.step("ShuffleShuffleFusion", "fuse", op.name, follower.name)
        net.absorb(op, follower, f"{op.name} + {follower.name}")
