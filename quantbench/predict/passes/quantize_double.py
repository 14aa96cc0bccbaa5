"""QuantizeDoubleInputNodes: a weighted layer or Add takes the DQs of its two inputs, and the Q behind it if it can."""

from quantbench.graph.ops import MATRIX
from quantbench.predict.net import Net, Op

NAME = "QuantizeDoubleInputNodes"
_ELEMENTWISE = frozenset({"Add", "Mul"})
_IMAGE = 4  # dimensions


def run(net: Net) -> None:
    """Visit candidates in network order, as the logs do."""
    for op in net.ops:
        if op in net and (op.weighted or op.kind in _ELEMENTWISE):
            _quantize(net, op)


def _quantize(net: Net, op: Op) -> None:
    if op.int8_in or len(op.inputs) < 2:
        return
    first, second = (net.producer(t) for t in op.inputs[:2])
    if first is None or second is None or not (first.is_dq and second.is_dq):
        return
    q = net.only_reader(op.out)
    if q is not None and q.is_q and q.out not in net.outputs and op.kind != "ConvTranspose":
        take_q(net, op, q)
    net.step(NAME, "take-dq", op.name, first.name, second.name)
    for index, dq in ((0, first), (1, second)):
        take_dq(net, op, index, dq)
    op.int8_in = True
    op.guess = op.guess or _guess(net, op)


def _guess(net: Net, op: Op) -> str:
    """What of an INT8 layer of this kind no log or engine at hand shows; "" for what they show.

    They show convs on images, Gemms and MatMuls of weights behind a pooling.
    """
    if not op.weighted:
        return "an INT8 elementwise layer: no log at hand shows its DQs being taken"
    shape = net.shape(op.inputs[0])
    rank = len(shape) if shape is not None else None
    if op.kind == "ConvTranspose":
        return "an INT8 ConvTranspose leaves the Q behind it (NVIDIA/TensorRT issue 2597, on 8.5)"
    if op.kind == "Conv" and rank not in (None, _IMAGE):
        return f"an INT8 conv on a tensor of {rank} dimensions: no log at hand shows one"
    if op.kind in MATRIX and op.inputs[1] not in net.constants:
        return "an INT8 MatMul of two activations: no log at hand shows one"
    if op.kind == "MatMul" and rank not in (None, 2):
        return f"an INT8 MatMul of a tensor of {rank} dimensions with weights: no log at hand shows one"
    return ""


def take_q(net: Net, op: Op, q: Op, name: str = NAME) -> None:
    """`op` writes INT8 in the place of `q`."""
    net.step(name, "take-q", op.name, q.name)
    op.out_scale = q.scale
    net.remove(q)
    net.set_output(op, q.out)
    op.int8_out = True


def take_dq(net: Net, op: Op, index: int, dq: Op) -> None:
    """Input `index` of `op` reads the INT8 tensor that `dq` reads."""
    net.set_input(op, index, dq.inputs[0])
    if dq in net and not net.readers(dq.out) and dq.out not in net.outputs:
        net.remove(dq)
