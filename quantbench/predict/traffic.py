"""What stays float, why, what would mend it, and how many bytes it moves."""

from quantbench.graph.ops import ACTIVATIONS, CONVS, INT8, SWAPS
from quantbench.predict.layers import dtypes_of
from quantbench.predict.net import Net, Op
from quantbench.predict.passes import myelin
from quantbench.predict.prediction import FloatWeighted

_SIZES = {"FP32": 4, "FP16": 2, "BF16": 2, "FP64": 8}

# Why a layer that was never quantized is float.
NO_QDQ = "neither its input nor its weights have Q/DQ"


def float_weighted(net: Net) -> tuple[FloatWeighted, ...]:
    """Weighted layers that compute in float."""
    found = []
    for op in net.ops:
        if op.weighted and not op.int8_in and _has_weights(op):
            reason, mend = _why_float(net, op)
            found.append(FloatWeighted(op.nodes[0], reason, mend))
        found.extend(_inside(product) for product in myelin.products(op) if not product.int8)
    return tuple(found)


def float_outputs(net: Net) -> tuple[FloatWeighted, ...]:
    """INT8 weighted layers that write float although a left-over Q reads what they write."""
    found = []
    for op in net.ops:
        if not (op.weighted and op.int8_in and not op.int8_out):
            continue
        readers = net.readers(op.out)
        qs = [r for r in readers if r.is_q]
        others = [r for r in readers if not r.is_q]
        if not qs:
            continue
        if op.kind == "ConvTranspose":
            reason = "a ConvTranspose does not take the Q behind it (NVIDIA/TensorRT issue 2597)"
            mend = f"leave {qs[0].name} out where what follows can stay float, or put a Resize and a Conv in its place"
        elif op.out in net.outputs or qs[0].out in net.outputs:
            reason = f"{op.out if op.out in net.outputs else qs[0].out} is an output of the network"
            mend = "return what a DQ behind it writes"
        elif op.residual:
            reason = f"its residual input {op.residual} is float, so {qs[0].name} cannot go into it"
            mend = f"quantize {op.residual} at the Add"
        elif others:
            reason = f"{op.out} is read by {qs[0].name} and, in float, by {others[0].name}"
            mend = _quantized_too(others[0], op.out)
        else:
            reason = f"{len(qs)} Qs with different scales read {op.out}"
            mend = f"give all Qs of {op.out} one scale"
        found.append(FloatWeighted(op.nodes[0], reason, mend, op.out))
    return tuple(found)


def _quantized_too(reader: Op, tensor: str) -> str:
    """What spares the float copy of `tensor` for `reader`: a layer, or what Myelin holds."""
    name = reader.nodes[0] if reader.nodes else reader.name
    if reader.kind == "Myelin":
        return f"quantize {tensor} there too, with the same scale, unless what reads it sums a stream for a layer norm"
    if reader.weighted or reader.kind in INT8 | SWAPS | ACTIVATIONS | {"Concat"}:
        return f"quantize {tensor} at {name} with the same scale"
    return f"none: {name} reads {tensor} in float, as {reader.kind} computes"


def float_bytes_between(net: Net) -> int:
    """Bytes that float tensors move on ways from one INT8 layer to another: one write, and one read a reader.

    Tensors of unknown size count as nothing.
    """
    dtypes = dtypes_of(net)
    ops = net.ops
    after: set[str] = set()  # tensors with an INT8 layer upstream
    for op in ops:
        if op.int8_in or op.int8_out or any(t in after for t in op.inputs):
            after.update(op.outputs)
    before: set[str] = set()  # tensors with an INT8 layer downstream
    for op in reversed(ops):
        if op.int8_in or op.int8_out or any(t in before for t in op.outputs):
            before.update(op.inputs)
    total = 0
    for tensor in sorted(after & before):
        size = _SIZES.get(dtypes.get(tensor, ""), 0)
        shape = net.shape(tensor)
        if not size or shape is None:
            continue
        count = 1
        for dim in shape:
            count *= dim if isinstance(dim, int) else 1
        total += count * size * (1 + len(net.readers(tensor)))
    return total


def _has_weights(op: Op) -> bool:
    return bool(op.constants) or op.kind in CONVS


def _inside(product: myelin.Product) -> FloatWeighted:
    reason, mend = _reason(product.source, product.weights, product.input_dq, product.weight_dq)
    return FloatWeighted(product.node, reason, mend)


def _why_float(net: Net, op: Op) -> tuple[str, str]:
    activation = net.producer(op.inputs[0])
    weight = net.producer(op.inputs[1]) if len(op.inputs) > 1 else None
    has_a = activation is not None and activation.is_dq
    has_w = (weight is not None and weight.is_dq) or any(t in net.folded for t in op.inputs[1:2])
    weights = op.constants[0] if op.constants else (op.inputs[1] if len(op.inputs) > 1 else "its weights")
    return _reason(op.inputs[0], weights, has_a, has_w)


def _reason(source: str, weights: str, has_a: bool, has_w: bool) -> tuple[str, str]:
    if has_a and not has_w:
        return "its weights have no Q/DQ", f"quantize {weights} per output channel"
    if has_w and not has_a:
        return f"its input {source} has no DQ", f"quantize {source}"
    return NO_QDQ, f"quantize {source} and {weights}"
