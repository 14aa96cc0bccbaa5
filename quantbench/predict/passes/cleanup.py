"""Clean-up: dead layers, identities, shuffles, shape arithmetic, scale constants. No Q or DQ moves here.

1. ShuffleErasure: an Identity or Dropout goes, whoever reads it reads what it read.
2. Dead layers go: nobody reads them and the network does not return them.
3. ShuffleShuffleFusion: Reshape, Transpose and the like that follow one another become one, `A + B`; ShuffleErasure:
   one that only reshapes, to the shape that was there, goes.
4. Shape arithmetic (Shape, Size, and integers computed from them and from constants) is known before the engine runs.
5. ConstQDQInitializersFusion: scales and zero points go into each Q and DQ.
6. Constant fold dangling QDQ: a DQ of constants that no layer took becomes a float constant.

Rules 1 to 5 stand before the first Q/DQ phase of every log at hand, rule 6 after the last.
"""

from quantbench.graph.ops import DEQUANTIZE, IDENTITIES, QUANTIZE, SHUFFLES
from quantbench.predict.net import Net, Op

CONST_QDQ = "ConstQDQInitializersFusion"
ERASURE = "ShuffleErasure"
DANGLING = "constant fold dangling QDQ"
_SOURCES = frozenset({"Shape", "Size"})
_INTEGERS = frozenset({"int64", "int32", "bool"})


def run(net: Net) -> None:
    """Rules 1 to 5."""
    for op in net.of_kind(*IDENTITIES):
        _erase(net, op)
    remove_dead(net)
    _fold_shapes(net)
    for op in net.of_kind(QUANTIZE, DEQUANTIZE):
        net.step(CONST_QDQ, "fuse", op.name)


def fuse_shuffles(net: Net) -> None:
    """Rule 3."""
    for op in net.of_kind(*SHUFFLES):
        _fuse_shuffles(net, op)
        if op in net and op.kind != "Transpose" and op.out not in net.outputs and _same(net, op):
            net.step(ERASURE, "remove", op.name)
            net.remove(op)
            net.redirect(op.out, op.inputs[0])


def remove_dead(net: Net) -> None:
    """Rule 2."""
    waiting = net.ops[::-1]
    while waiting:
        op = waiting.pop(0)
        if op not in net or any(net.readers(o) or o in net.outputs for o in op.outputs):
            continue
        net.remove(op)
        waiting.extend(p for p in map(net.producer, op.inputs) if p is not None)


def fold_dangling(net: Net) -> None:
    """Rule 6: biases, weights of layers that compute in float."""
    for dq in net.of_kind(DEQUANTIZE):
        if dq.inputs[0] in net.constants and dq.out not in net.outputs:
            net.step(DANGLING, "fold", dq.out, dq.name)
            net.remove(dq)
            net.constants.add(dq.out)
            net.folded.add(dq.out)


def _erase(net: Net, op: Op) -> None:
    """An Identity whose output the network returns hands its name to what made it, if that is no input."""
    if op.out not in net.outputs:
        net.step(ERASURE, "remove", op.name)
        net.remove(op)
        net.redirect(op.out, op.inputs[0])
        return
    maker = net.producer(op.inputs[0])
    if maker is None or op.inputs[0] in net.outputs or len(maker.outputs) > 1:
        return
    net.step(ERASURE, "remove", op.name)
    net.remove(op)
    net.redirect(op.inputs[0], op.out)
    net.set_output(maker, op.out)


def _fold_shapes(net: Net) -> None:
    for op in net.ops:
        known = op.kind in _SOURCES or (bool(op.inputs) and all(t in net.constants for t in op.inputs))
        if known and not op.is_dq and not any(o in net.outputs for o in op.outputs) and _integers(net, op.outputs):
            net.step("shape arithmetic", "remove", op.name)
            net.remove(op)
            net.constants.update(op.outputs)


def _integers(net: Net, tensors: list[str]) -> bool:
    views = [net.tensors.get(tensor) for tensor in tensors]
    return all(view is not None and view.dtype in _INTEGERS for view in views)


def _same(net: Net, op: Op) -> bool:
    before, after = net.shape(op.inputs[0]), net.shape(op.out)
    return before is not None and before == after and all(isinstance(d, int) for d in before)


def _fuse_shuffles(net: Net, op: Op) -> None:
    while op in net:
        follower = net.only_reader(op.out)
        if follower is None or follower.kind not in SHUFFLES or op.kind not in SHUFFLES:
            return
        net.step("ShuffleShuffleFusion", "fuse", op.name, follower.name)
        op.kind = follower.kind if op.kind != "Transpose" else op.kind
        net.absorb(op, follower, f"{op.name} + {follower.name}")
