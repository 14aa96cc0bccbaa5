"""What the predictor sees: Q/DQ that are left over, weighted layers in float, INT8 layers that write float."""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from quantbench.graph.ops import ACTIVATIONS, DEQUANTIZE, IDENTITIES, INT8, QUANTIZE, SWAPS
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index
from quantbench.predict.simulate import predict_model
from quantbench.qdq.rules.streams import normalised_streams

_MOVING = SWAPS | {"Concat"}
# What TensorRT computes in INT8, given Q/DQ around it, or moves Q and DQ past.
_QUANTIZABLE = INT8 | _MOVING
# They read no values.
_SHAPES = ("Shape", "Size")


def find(index: Index) -> Iterator[Finding]:
    """Findings of the prediction. The Q of a network input is no finding: something must quantize it."""
    prediction = predict_model(index.model, version=index.version.name, gpu=index.version.gpu)
    layers = {layer.name: layer for layer in prediction.layers}
    nodes = {node.name: node for node in index.model.graph.node}
    inputs = set(index.view.inputs)
    copies: dict[str, list[int]] = {}  # node to the bytes of each copy: clones of one Q are one finding
    for fate in prediction.leftover:
        layer = layers.get(fate.name)
        if layer is not None and layer.inputs and layer.inputs[0].name not in inputs and fate.node in nodes:
            copies.setdefault(fate.node, []).append(index.nbytes(layer.inputs[0].name) * 5 // 4)
    planned = index.chosen
    for name, costs in copies.items():
        node = nodes[name]
        what = "a copy" if len(costs) == 1 else f"{len(costs)} copies"
        message = f"this {'Q' if node.op_type == QUANTIZE else 'DQ'} fuses into nothing and becomes {what}"
        placed = _quantized_by(index, node) in planned.tensors
        yield Finding("left-over", name, sum(costs), message, _mend(index, node), chosen=placed)
    for item in prediction.float_weighted:
        node = nodes[item.node]
        cost = index.nbytes(node.input[0]) + index.nbytes(node.output[0])
        yield Finding("float-layer", item.node, cost, item.reason, item.mend, chosen=item.node in planned.floats)
    for item in prediction.float_outputs:
        placed = item.tensor in planned.tensors
        cost = 2 * index.nbytes(nodes[item.node].output[0])
        yield Finding("float-output", item.node, cost, item.reason, item.mend, chosen=placed)


def _quantized_by(index: Index, node: NodeProto) -> str:
    """The tensor that a Q rounds, or the Q before a DQ."""
    maker = index.makers.get(node.input[0]) if node.op_type == DEQUANTIZE else node
    return str(maker.input[0]) if maker is not None and maker.input else ""


def _mend(index: Index, node: NodeProto) -> str:
    """The nearest change of placement that spares the copy."""
    return _mend_dq(index, node) if node.op_type == DEQUANTIZE else _mend_q(index, node)


def _mend_dq(index: Index, node: NodeProto) -> str:
    """What stands beside it in float, else what its reader would need."""
    readers = index.readers.get(node.output[0], ())
    for reader in readers:
        for tensor in reader.input if reader.op_type in ("Add", "Mul") else ():
            if tensor != node.output[0] and not index.is_weight(tensor) and not _is_dq(index, tensor):
                return f"quantize {tensor}, the other input of {reader.name}, or leave both in float"
    for reader in readers:
        if reader.op_type in ACTIVATIONS:
            return f"move Q and DQ behind {reader.name}"
        behind = [r for out in reader.output for r in index.readers.get(out, ()) if r.op_type == QUANTIZE]
        if reader.op_type in _MOVING and behind:
            return f"give it and {behind[0].name} one scale"
        if reader.op_type in _QUANTIZABLE:
            what = "all that it reads" if behind else "what it writes"
            return f"quantize {what} at {reader.name}, or leave its input in float"
        if reader.op_type != QUANTIZE:
            return f"leave the input of {reader.name} in float: {reader.op_type} computes in float"
    return "leave it out"


def _mend_q(index: Index, node: NodeProto) -> str:
    """Who reads in float, or with another scale, what it reads; else what makes that."""
    tensor = node.input[0]
    readers = [r for r in index.readers.get(tensor, ()) if r.op_type not in (QUANTIZE, *_SHAPES)]
    streams = normalised_streams(index.view)
    for reader in readers:
        if reader.name in streams:
            return f"none: {reader.name} adds to a stream that a layer norm reads, which loses too much in INT8"
        if reader.op_type in _QUANTIZABLE | ACTIVATIONS:
            return f"quantize {tensor} at {reader.name} with the same scale"
    if readers:
        return f"none: {readers[0].name} reads {tensor} in float, as {readers[0].op_type} computes"
    scale = index.scale(node)
    for reader in index.readers.get(tensor, ()):
        other = index.scale(reader)
        if reader.name != node.name and scale is not None and other is not None and not np.array_equal(scale, other):
            return f"give it and {reader.name} one scale"
    maker = _maker(index, tensor)
    dqs = [r for r in index.readers.get(node.output[0], ()) if r.op_type == DEQUANTIZE]
    if maker is None or (dqs and all(dq.output[0] in index.outputs for dq in dqs)):
        return "leave it out: nothing computes on it"
    if maker.op_type == DEQUANTIZE:
        return f"give it the scale of {maker.name}, which stands right before it"
    if maker.op_type == "ConvTranspose":
        return f"none here: see the float-output of {maker.name}"
    if maker.op_type in _MOVING and all(_is_dq(index, t) for t in maker.input if not index.is_weight(t)):
        return f"give it and the inputs of {maker.name} one scale"
    if maker.op_type in ACTIVATIONS and _is_dq(index, maker.input[0]):
        return f"take out the Q and DQ before {maker.name}"
    if maker.op_type in _QUANTIZABLE | ACTIVATIONS:
        return f"quantize the inputs of {maker.name}, or leave its output in float"
    return f"leave the output of {maker.name} in float where that suffices: {maker.op_type} computes in float"


def _maker(index: Index, tensor: str) -> NodeProto | None:
    """What computes `tensor`: not the Identity or Dropout that passes it on."""
    maker = index.makers.get(tensor)
    while maker is not None and maker.op_type in IDENTITIES and maker.input[0] in index.makers:
        maker = index.makers[maker.input[0]]
    return maker


def _is_dq(index: Index, tensor: str) -> bool:
    maker = index.makers.get(tensor)
    return maker is not None and maker.op_type == DEQUANTIZE
