"""Fusions before quantization: activations, scales and pointwise chains.

1. EltReluFusion, ScaleActivationFusion, ConvReluFusion: a Relu goes into the Add, the BatchNormalization or the
   weighted layer that feeds it and that nothing else reads.
2. ActivationToPointwiseConversion: any other activation is a pointwise layer, `PWN(x)`.
3. PointWiseFusion: x * sigmoid(x) becomes `PWN(sigmoid, mul)`; then elementwise layers and PWNs that follow one
   another become one. An Add of what a conv or BatchNormalization writes waits for the conv to take it.
4. QConvScaleFusion (10.x: QConvOrDeconvScaleFusion), ConvScaleFusion: a scale behind a weighted layer goes into it. A
   scale is a BatchNormalization (with its Relu), or a Mul or Add by constants of one value or one a channel, which
   ConstEltFusion makes a scale of. Its name leaves no trace. A quantized ConvTranspose takes none before 10
   (`Version.deconv_scale`).
5. GenericConvActFusion: a PWN goes into the conv that feeds it if it reads nothing else and one layer reads it.
   SiLU: into quantized convs, not depthwise ones; into float convs from `Version.float_silu` on.

    Conv -> BN -> Sigmoid, Mul -> Q            one layer                                (rules 3, 4, 5)
    Conv -> BN -> Sigmoid, Mul -> Q1, Q2       Conv + BN, then PWN(Sigmoid, Mul)        (rule 5: two layers read it)
"""

from quantbench.graph.ops import ACTIVATIONS, ARITHMETIC, CONVS, MATRIX, WEIGHTED
from quantbench.predict.net import Net, Op
from quantbench.predict.versions import Version

_RELU_INTO = {"Add": "EltReluFusion", "Sum": "EltReluFusion", "BatchNormalization": "ScaleActivationFusion",
              "Conv": "ConvReluFusion", "ConvTranspose": "DeconvReluFusion", "Gemm": "ConvReluFusion"}  # fmt: skip
_RANK = 4
POINTWISE = "Pointwise"
SILU = "SiLU"
SILU_ADD = "SiLU, Add"
_TWO = 2
CONV_ACT = "GenericConvActFusion"


def relu(net: Net) -> None:
    """Rule 1."""
    for op in net.of_kind(*_RELU_INTO):
        follower = net.only_reader(op.out)
        if follower is not None and follower.kind == "Relu" and not op.activation:
            net.step(_RELU_INTO[op.kind], "fuse", op.name, follower.name)
            net.absorb(op, follower, f"{op.name} + {follower.name}")
            op.activation = "Relu"
            op.traits.append("relu")


def pointwise(net: Net) -> None:
    """Rules 2 and 3. SiLU first: it is a chain that closes on itself."""
    for sigmoid in net.of_kind("Sigmoid", "HardSigmoid"):
        _fuse_silu(net, sigmoid)
    for op in net.of_kind(*(ACTIVATIONS - {"Relu"})):
        net.step("ActivationToPointwiseConversion", "retype", op.name)
        op.kind, op.name = POINTWISE, f"PWN({op.name})"
    for defers in (True, False):
        for op in net.ops:
            _fuse_chain(net, op, defers)


def scales(net: Net, version: Version) -> None:
    """Rule 4."""
    for op in net.of_kind(*WEIGHTED):
        quantized = has_quantized_weights(net, op)
        if op.kind == "ConvTranspose" and quantized and not version.deconv_scale:
            continue
        while not op.activation and (scale := net.only_reader(op.out)) is not None and _is_scale(net, op, scale):
            if scale.kind != "BatchNormalization":
                constant = next(t for t in scale.inputs if t in net.constants)
                net.step("ConstEltFusion", "fuse", constant, scale.name)
                op.traits.append("constant-scale")
            else:
                op.traits.append("bn" if op.kind == "Conv" else "deconv-bn")
            net.step(version.scale_pass if quantized else "ConvScaleFusion", "remove", op.name, scale.name)
            net.absorb(op, scale)
            op.activation = scale.activation


def conv_activation(net: Net, version: Version) -> None:
    """Rule 5."""
    for op in net.of_kind(*CONVS):
        act = net.only_reader(op.out)
        if act is None or act.kind != POINTWISE or op.activation:
            continue
        live = [t for t in act.inputs if t not in net.constants]
        adds = act.activation == SILU_ADD and version.silu_residual and live[0] == op.out != live[1]
        silu = adds or act.activation == SILU
        if not adds and (live != [op.out] or not (_single(net, act) or act.out in net.outputs)):
            continue
        quantized = has_quantized_weights(net, op)
        if silu and version.whole_network_in_myelin:
            continue
        if silu and (_depthwise(net, op) or not (quantized or version.float_silu)):
            continue
        net.step(CONV_ACT, "fuse", op.name, act.name)
        net.absorb(op, act, f"{op.name} + {act.name}")
        op.activation = act.activation or "PWN"
        op.traits.append(("silu" if quantized else "silu-float") if silu else "activation")
        if adds:
            net.add_input(op, live[1])
            op.residual, op.order = live[1], act.order
            op.traits.append("silu-residual")


def has_quantized_weights(net: Net, op: Op) -> bool:
    """Whether the weights of `op` come through a DQ."""
    maker = net.producer(op.inputs[1]) if len(op.inputs) > 1 else None
    return maker is not None and maker.is_dq


def _single(net: Net, act: Op) -> bool:
    if net.only_reader(act.out) is not None:
        return True
    act.traits.append("activation-shared")
    return False


def _fuse_silu(net: Net, sigmoid: Op) -> None:
    """x * sigmoid(x): both read x, and the Mul alone reads the sigmoid."""
    mul = net.only_reader(sigmoid.out)
    if mul is None or mul.kind != "Mul" or sigmoid.inputs[0] not in mul.inputs:
        return
    net.step("PointWiseFusion", "fuse", sigmoid.name, mul.name)
    net.absorb(sigmoid, mul, f"PWN({sigmoid.name}, {mul.name})")
    sigmoid.kind, sigmoid.activation = POINTWISE, SILU


def _fuse_chain(net: Net, op: Op, defers: bool) -> None:
    """Of two SiLUs that meet in an Add, the later one goes first (10.9 log, PAN): with `defers` the earlier waits."""
    while op in net and _chainable(net, op):
        follower = net.only_reader(op.out)
        if follower is None or not _chainable(net, follower) or follower.activation == SILU:
            return
        if (
            defers
            and op.activation == SILU
            and any(
                p is not None and p.activation == SILU and p.order > op.order
                for p in map(net.producer, follower.inputs)
            )
        ):
            return
        net.step("PointWiseFusion", "fuse", op.name, follower.name)
        others = [t for t in follower.inputs if t != op.out]
        net.absorb(op, follower, f"PWN({op.name}, {follower.name})")
        for tensor in others:
            net.add_input(op, tensor)
        sum_of_two = op.activation == SILU and follower.kind == "Add" and len(op.inputs) == _TWO
        op.kind, op.order = POINTWISE, follower.order
        op.activation = SILU_ADD if sum_of_two else "PWN"
        op.traits.append("pointwise-chain")


def _chainable(net: Net, op: Op) -> bool:
    """Elementwise on floats; an Add of a weighted layer waits for ConvEltwiseSumFusion."""
    if op.kind == POINTWISE:
        return True
    if op.kind not in ARITHMETIC:
        return False
    for tensor in op.inputs:
        maker = net.producer(tensor)
        if maker is not None and (maker.is_dq or maker.weighted or maker.kind == "BatchNormalization"):
            return False
    return True


def _is_scale(net: Net, op: Op, follower: Op) -> bool:
    if follower.kind == "BatchNormalization":
        return op.kind in CONVS
    if follower.kind not in ("Mul", "Add") or len(follower.inputs) != 2:
        return False
    constant = next((t for t in follower.inputs if t in net.constants), "")
    shape = net.shape(constant) if constant else None
    if shape is None:
        return False
    sizes = [d for d in shape if d != 1]
    if op.kind in MATRIX:
        return not sizes or (len(sizes) == 1 and shape[-1] == sizes[0])
    # One a channel: [C, 1, 1] or [1, C, 1, 1].
    return not sizes or (len(sizes) == 1 and len(shape) >= _RANK - 1 and shape[-3] == sizes[0])


def _depthwise(net: Net, op: Op) -> bool:
    group = op.attributes.get("group", 1)
    shape = net.shape(op.inputs[0])
    return isinstance(group, int) and group > 1 and shape is not None and len(shape) > 1 and shape[1] == group
