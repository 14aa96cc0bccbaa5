"""Quantization: which layers take which DQs and Qs.

1. ConstWeightsQuantizeFusion: constant weights and their Q become an INT8 constant, `W + Q`.
2. QuantizeConvWithResidualAdd: conv, Add (with Relu) and a Q alone behind it, with a DQ on the other input: the Q moves
   before the Add and into the conv, the conv takes its two DQs, then the Add with the residual's DQ. Without that Q
   nothing happens and the DQ is left over.
3. QuantizeDoubleInputNodes: a weighted layer, Add or Mul takes the DQs of its two inputs, and the Q behind it where
   nothing else reads what it writes. No Q: INT8 in, float out. A ConvTranspose leaves its Q (NVIDIA/TensorRT 2597).
4. QuantizeSingleInputNodes: an average pooling with a DQ before it and a Q alone behind it takes both.
5. QuantizeGenericNodes: a pointwise layer with a Q alone behind it writes INT8 (`Version.pointwise_takes_q`).
6. ConstWeightsFusion: `W + Q` goes into its layer and stands first in the layer's name.

    DQ, W_DQ -> Conv -> Q           one INT8 layer                                       (rules 1, 3, 6)
    DQ, W_DQ -> Conv -> Q1, Q2      INT8 in, float out; Q1 and Q2 are left over          (rule 3)
    Conv, DQ -> Add -> Q            one INT8 layer with an INT8 residual input           (rule 2)
"""

from quantbench.graph.ops import AVERAGES, CONVS, QUANTIZE
from quantbench.predict.net import Net, Op
from quantbench.predict.passes.fusions import POINTWISE, SILU
from quantbench.predict.versions import Version

WEIGHTS_Q = "ConstWeightsQuantizeFusion"
RESIDUAL = "QuantizeConvWithResidualAdd"
DOUBLE = "QuantizeDoubleInputNodes"
SINGLE = "QuantizeSingleInputNodes"
GENERIC = "QuantizeGenericNodes"
WEIGHTS = "ConstWeightsFusion"
SUM = "ConvEltwiseSumFusion"
_ELEMENTWISE = frozenset({"Add", "Mul"})
_IMAGE = 4  # dimensions


def constant_weights(net: Net) -> None:
    """Rule 1: every Q of a constant becomes a constant of the name that TensorRT gives it."""
    for op in net.of_kind(QUANTIZE):
        weight = op.inputs[0]
        if weight not in net.constants:
            continue
        net.step(WEIGHTS_Q, "fuse", weight, op.name)
        net.remove(op)
        op.name = f"{weight} + {op.name}"
        net.weights[op.out] = op
        net.constants.add(op.out)


def run(net: Net, version: Version) -> None:
    """Rules 2 to 6. Candidates are visited in network order, as the logs do."""
    for add in () if version.whole_network_in_myelin else net.of_kind("Add", "Sum"):
        if len(add.inputs) == 2:
            for index in (0, 1):
                if add in net and _residual(net, add, index, version):
                    _take_residual(net, add, index)
    for op in net.ops:
        if op in net and (op.weighted or op.kind in _ELEMENTWISE):
            _double(net, op)
    for op in net.of_kind(*AVERAGES):
        _single(net, op)
    if version.pointwise_takes_q:
        for op in net.of_kind(POINTWISE):
            _generic(net, op)
    _weights_into_layers(net)


def take_q(net: Net, op: Op, q: Op, name: str) -> None:
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


def _dqs(net: Net, op: Op) -> tuple[Op, Op] | None:
    if len(op.inputs) < 2:
        return None
    first, second = (net.producer(t) for t in op.inputs[:2])
    if first is None or second is None or not (first.is_dq and second.is_dq):
        return None
    return first, second


def _residual(net: Net, add: Op, index: int, version: Version) -> bool:
    """What rule 2 asks for; nothing may stand between conv and Add, from `Version.silu_residual` on but a SiLU."""
    conv, other = net.producer(add.inputs[index]), net.producer(add.inputs[1 - index])
    q = net.only_reader(add.out)
    return (
        conv is not None
        and other is not None
        and q is not None
        and conv.kind in CONVS
        and (not conv.activation or (conv.activation == SILU and not conv.residual and version.silu_residual))
        and net.only_reader(conv.out) is add
        and _dqs(net, conv) is not None
        and other.is_dq
        and q.is_q
        and q.out not in net.outputs
        and net.same_shape(add.inputs[0], add.inputs[1])
    )


def _take_residual(net: Net, add: Op, index: int) -> None:
    conv, dq = net.producer(add.inputs[index]), net.producer(add.inputs[1 - index])
    q = net.only_reader(add.out)
    assert conv is not None
    assert dq is not None
    assert q is not None
    dqs = _dqs(net, conv)
    assert dqs is not None
    net.step(RESIDUAL, "swap", add.name, q.name)
    net.step(RESIDUAL, "take-q", conv.name, q.name)
    net.step(RESIDUAL, "take-dq", conv.name, *(d.name for d in dqs))
    net.step(RESIDUAL, "take-residual", conv.name, dq.name)
    for at, one in enumerate(dqs):
        take_dq(net, conv, at, one)
    weight = net.weights.get(conv.inputs[1])
    net.step(SUM, "fuse", f"{weight.name} + {conv.name}" if weight is not None else conv.name, add.name)
    net.remove(q)
    net.set_output(add, q.out)
    take_dq(net, add, 1 - index, dq)
    residual, order = add.inputs[1 - index], add.order
    if conv.activation == SILU:
        own, joint, act = conv.name.partition(" + PWN(")
        name = f"{own}{joint}PWN({act}, {add.name})"
        conv.traits.append("silu-residual")
    else:
        name = f"{conv.name} + {add.name}"
    net.absorb(conv, add, name)
    net.add_input(conv, residual)
    conv.residual, conv.activation, conv.order = residual, add.activation or conv.activation, order
    conv.int8_in = conv.int8_out = True
    conv.out_scale = q.scale
    conv.traits += ["residual-int8", *add.traits, _kind(net, conv)]
    for name in (q.name, dq.name, *(d.name for d in dqs)):
        net.note(name, "residual-int8")


def _double(net: Net, op: Op) -> None:
    """Rule 3."""
    dqs = None if op.int8_in else _dqs(net, op)
    if dqs is None:
        return
    trait = _kind(net, op)
    q = net.only_reader(op.out)
    if q is not None and q.is_q and q.out not in net.outputs and op.kind != "ConvTranspose":
        take_q(net, op, q, DOUBLE)
        net.note(q.name, trait)
    net.step(DOUBLE, "take-dq", op.name, *(d.name for d in dqs))
    for index, dq in enumerate(dqs):
        take_dq(net, op, index, dq)
        net.note(dq.name, trait)
    op.int8_in = True
    op.traits.append(trait)


def _kind(net: Net, op: Op) -> str:
    """Which kind of INT8 layer this is: logs and engines show convs on images, Gemms and MatMuls of weights."""
    if not op.weighted:
        return "int8-elementwise"
    shape = net.shape(op.inputs[0])
    rank = len(shape) if shape is not None else None
    if op.kind == "ConvTranspose":
        return "int8-deconv"
    if op.kind == "Conv":
        return "int8-conv" if rank in (None, _IMAGE) else "int8-conv-rank"
    if op.inputs[1] not in net.constants:
        return "int8-matmul-activations"
    return "int8-gemm" if rank in (None, 2) else "int8-matmul-rank"


def _single(net: Net, op: Op) -> None:
    """Rule 4. Without the Q behind it the pooling stays float and the DQ is left over."""
    dq, q = net.producer(op.inputs[0]), net.only_reader(op.out)
    if dq is None or not dq.is_dq:
        return
    if q is None or not q.is_q or q.out in net.outputs:
        op.traits.append("pooling-without-q")
        return
    net.step(SINGLE, "take-dq", op.name, dq.name)
    take_q(net, op, q, SINGLE)
    take_dq(net, op, 0, dq)
    op.int8_in = True
    for name in (dq.name, q.name):
        net.note(name, "int8-pooling")
    op.traits.append("int8-pooling")


def _generic(net: Net, op: Op) -> None:
    """Rule 5. A Q right behind a network input or output stays where it is."""
    q = net.only_reader(op.out)
    if q is None or not q.is_q or q.out in net.outputs:
        return
    take_q(net, op, q, GENERIC)
    net.note(q.name, "pointwise-takes-q")
    op.traits.append("pointwise-takes-q")


def _weights_into_layers(net: Net) -> None:
    """Rule 6; biases go the same way."""
    for op in net.ops:
        if not op.weighted:
            continue
        for tensor in [t for t in op.inputs[1:] if t in net.constants]:
            weight = net.weights.get(tensor)
            if weight is not None:
                net.step(WEIGHTS, "fuse", weight.name, op.name)
                op.name = f"{weight.name} + {op.name}"
                op.nodes.extend(weight.nodes)
            op.constants.append(weight.inputs[0] if weight is not None else tensor)
