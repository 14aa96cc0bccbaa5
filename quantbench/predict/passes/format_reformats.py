"""Reformats between memory formats: what an INT8 conv writes as float, a float pooling does not read, and vice versa.

TensorRT chooses formats by timing; this pass says only what the formats of the kernels leave no way around. In builds
that may use FP16, INT8 convs that write float write it in CHW32 (28 of 28 in the A100 engines resnet-qat, mobilenet.qat
and mobilenet_v2_residuals.qat; the interleaved i8f16 kernels have no other format). Float poolings have no CHW32
kernel: they ran in linear or CHW2 there, and the trt852 log tries none but linear and NHWC4 for them. So a tensor
between the two is reformatted: 4 of 4 in those engines. One of the four, mobilenet_v2_residuals.qat, was only looked up
when the rule was written. Builds without FP16 keep such tensors linear (trt852 log), so nothing is added for them.
"""

from quantbench.graph.ops import AVERAGES
from quantbench.predict.layers import dtypes_of
from quantbench.predict.net import Net, Op
from quantbench.predict.versions import Version

NAME = "format reformat"
KIND = "FormatReformat"
_POOLINGS = AVERAGES | {"MaxPool"}
# int8x4 kernels of stems write linear (A100 resnet-qat: ampere_fp32_icudnn_int8x4; trt852 log: conv1).
_STEM_CHANNELS = 4


def run(net: Net, version: Version) -> None:
    """Add a FormatReformat op at each such border. Call it last, and only for builds that may use FP16."""
    dtypes = dtypes_of(net)
    for pool in net.of_kind(*_POOLINGS):
        if pool.int8_in or dtypes.get(pool.out) == "INT8":
            continue
        maker = net.producer(pool.inputs[0])
        if maker is not None and _writes_chw32(net, maker):
            guess = "" if version.formats_shown else "formats: only engines of TensorRT 8.4 show this reformat"
            _before(net, pool, 0, guess)
        _behind(net, pool)


def _writes_chw32(net: Net, op: Op) -> bool:
    """Whether `op` is an INT8 conv whose float output is CHW32.

    Not where a left-over DQ makes its residual: residual and output have one format, a DQ writes any, and the one case
    at hand went linear (A100 resnet-qat-residual, Conv_284 + Add_292). Depthwise convs and stems have other kernels.
    """
    if op.kind != "Conv" or not op.int8_in or op.int8_out or int(op.attributes.get("group", 1)) > 1:
        return False
    shape = net.shape(op.inputs[0])
    if shape is not None and len(shape) > 1 and isinstance(shape[1], int) and shape[1] <= _STEM_CHANNELS:
        return False
    residual = net.producer(op.residual) if op.residual else None
    return residual is None or not residual.is_dq


def _behind(net: Net, pool: Op) -> None:
    """Float poolings whose output is the residual of a CHW32 conv: one reformat behind the pooling if all readers can
    do with it (a Q reads any format), else one before each such conv."""
    guess = "formats: one engine shows this reformat (A100 resnet-qat, MaxPool_12)"
    readers = net.readers(pool.out)
    convs = [r for r in readers if r.residual == pool.out and _writes_chw32(net, r)]
    if not convs:
        return
    if pool.out not in net.outputs and all(r in convs or r.is_q for r in readers):
        inner = f"Reformatted Output Tensor 0 to {pool.name}"
        result = pool.out
        net.like(inner, result)
        net.set_output(pool, inner)
        name = f"Reformatting CopyNode for Output Tensor 0 to {pool.name}"
        _add(net, name, inner, result, pool.order + 0.01, guess)
        return
    for conv in convs:
        _before(net, conv, conv.inputs.index(pool.out), guess)


def _before(net: Net, op: Op, index: int, guess: str) -> None:
    source = op.inputs[index]
    shown = 1 if op.residual == source else index
    result = f"Reformatted Input Tensor {shown} to {op.name}"
    net.like(result, source)
    net.set_input(op, index, result)
    if op.residual == source:
        op.residual = result
    _add(net, f"Reformatting CopyNode for Input Tensor {shown} to {op.name}", source, result, op.order - 0.01, guess)


def _add(net: Net, name: str, source: str, result: str, order: float, guess: str) -> None:
    net.step(NAME, "reformat", name, source)
    net.add(Op(KIND, name, [source], [result], order, [], guess=guess))
