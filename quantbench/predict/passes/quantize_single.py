"""QuantizeSingleInputNodes: an average pooling between a DQ and a Q computes in INT8."""

from quantbench.graph.ops import AVERAGES
from quantbench.predict.net import Net
from quantbench.predict.passes.quantize_double import take_dq, take_q

NAME = "QuantizeSingleInputNodes"


def run(net: Net) -> None:
    """Both sides are needed (A100 resnet-qat-residual-qgap: the Q of fc, moved before Flatten, is taken too).

    Without the Q behind it the pooling stays float and the DQ is left over; no log shows that.
    """
    for op in net.of_kind(*AVERAGES):
        dq, q = net.producer(op.inputs[0]), net.only_reader(op.out)
        if dq is None or not dq.is_dq:
            continue
        if q is None or not q.is_q or q.out in net.outputs:
            op.guess = "an average pooling with a DQ before it but no Q alone behind it stays float"
            continue
        net.step(NAME, "take-dq", op.name, dq.name)
        take_q(net, op, q, NAME)
        take_dq(net, op, 0, dq)
        op.int8_in = True
