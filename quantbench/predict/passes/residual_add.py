"""QuantizeConvWithResidualAdd: conv + Add (+ Relu) + Q with a DQ on the other input becomes one INT8 layer."""

from quantbench.graph.ops import CONVS
from quantbench.predict.net import Net, Op
from quantbench.predict.passes.quantize_double import take_dq, take_q

NAME = "QuantizeConvWithResidualAdd"


def run(net: Net) -> None:
    """Fuse where the conv has quantized inputs, nothing between it and the Add, and a Q alone behind the Add.

    Without that Q nothing happens and the DQ is left over (A100 resnet-qat-residual, DequantizeLinear_291).
    """
    for add in net.of_kind("Add", "Sum"):
        if len(add.inputs) == 2:
            for index in (0, 1):
                if add in net and _matches(net, add, index):
                    _fuse(net, add, index)


def _matches(net: Net, add: Op, index: int) -> bool:
    conv, other = net.producer(add.inputs[index]), net.producer(add.inputs[1 - index])
    q = net.only_reader(add.out)
    return (
        conv is not None
        and other is not None
        and q is not None
        and conv.kind in CONVS
        and not conv.activation
        and net.only_reader(conv.out) is add
        and all((p := net.producer(t)) is not None and p.is_dq for t in conv.inputs[:2])
        and other.is_dq
        and q.is_q
        and q.out not in net.outputs
        and net.same_shape(add.inputs[0], add.inputs[1])
    )


def _fuse(net: Net, add: Op, index: int) -> None:
    conv, dq = net.producer(add.inputs[index]), net.producer(add.inputs[1 - index])
    q = net.only_reader(add.out)
    assert conv is not None
    assert dq is not None
    assert q is not None
    net.step(NAME, "take-dq", conv.name, dq.name)
    take_q(net, add, q, NAME)
    take_dq(net, add, 1 - index, dq)
    residual = add.inputs[1 - index]
    activation, nodes, name, result, order = add.activation, add.nodes, add.name, add.out, add.order
    net.remove(add)
    net.set_output(conv, result)
    net.add_input(conv, residual)
    conv.nodes.extend(nodes)
    conv.name, conv.residual, conv.activation = f"{conv.name} + {name}", residual, activation
    conv.int8_out, conv.out_scale, conv.order = True, add.out_scale, order
