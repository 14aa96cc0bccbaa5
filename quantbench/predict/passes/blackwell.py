"""Blackwell (sm_100, sm_120): the whole network is Myelin's, convs too. Drawn from one engine and one stem.

1. A conv takes its DQs, BatchNormalization, Relu and the Q behind it, as elsewhere (a `correlation` kernel; a stem with
   its MaxPool is `conv_act_pool`), but no residual Add and no SiLU.
2. Elementwise layers are `kgen` kernels: each takes the DQs that only it reads, and the Q alone behind it.
3. A Q or DQ that is left is a kgen of its own (`MulMinMaxRounCast`, `CastMul`). There are no reformats between formats.

    Conv -> Q -> DQ \\
                     Add -> Relu -> Q        correlation (INT8 out), then kgen: DQ, DQ, Add, Relu, Q       (rules 1, 2)
          skip -> DQ /
"""

from quantbench.graph.ops import POINTWISE as POINTWISE_OPS
from quantbench.predict.net import Net, Op
from quantbench.predict.passes.fusions import POINTWISE
from quantbench.predict.passes.quantize import take_dq, take_q

KERNEL = "kgen"
_TYPES = {"Conv": "correlation", "ConvTranspose": "deconv", "Gemm": "gemm", "MatMul": "gemm"}


def run(net: Net) -> None:
    """Rule 2, behind the quantization of convs."""
    for op in net.ops:
        if op in net and (op.kind == POINTWISE or op.kind in POINTWISE_OPS):
            _take_all(net, op)
    for op in net.ops:
        op.traits.append("blackwell")


def type_of(op: Op) -> str:
    """What the engine calls the kernel of `op`, "" where nothing is known."""
    if "stem-pool" in op.traits:
        return "conv_act_pool"
    if op.is_q or op.is_dq or op.kind == POINTWISE or op.kind in POINTWISE_OPS:
        return KERNEL
    return _TYPES.get(op.kind, "")


def _take_all(net: Net, op: Op) -> None:
    for index, tensor in enumerate(op.inputs):
        dq = net.producer(tensor)
        if dq is not None and dq.is_dq and net.only_reader(dq.out) is op:
            net.step(KERNEL, "take-dq", op.name, dq.name)
            take_dq(net, op, index, dq)
            net.note(dq.name, "blackwell")
    q = net.only_reader(op.out)
    if q is not None and q.is_q and q.out not in net.outputs:
        take_q(net, op, q, KERNEL)
        net.note(q.name, "blackwell")
