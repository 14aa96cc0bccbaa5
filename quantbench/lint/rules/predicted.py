"""What the predictor sees: Q/DQ that are left over, weighted layers in float, INT8 layers that write float."""

from collections.abc import Iterator

from onnx import NodeProto

from quantbench.lint.finding import Finding
from quantbench.lint.index import DEQUANTIZE, QUANTIZE, Index
from quantbench.predict.simulate import predict_model


def find(index: Index) -> Iterator[Finding]:
    """Findings of a prediction for TensorRT 10. The Q of a network input is no finding: something must quantize it."""
    prediction = predict_model(index.model)
    layers = {layer.name: layer for layer in prediction.layers}
    nodes = {node.name: node for node in index.model.graph.node}
    inputs = set(index.view.inputs)
    for fate in prediction.leftover:
        layer = layers.get(fate.name)
        if layer is None or layer.inputs[0].name in inputs or fate.node not in nodes:
            continue
        cost = index.nbytes(layer.inputs[0].name) * 5 // 4
        message = f"this {fate.op} fuses into nothing and becomes a copy"
        yield Finding("left-over", fate.node, cost, message, _mend(index, nodes[fate.node]))
    for item in prediction.float_weighted:
        node = nodes[item.node]
        cost = index.nbytes(node.input[0]) + index.nbytes(node.output[0])
        yield Finding("float-layer", item.node, cost, item.reason, item.mend)
    for item in prediction.float_outputs:
        yield Finding("float-output", item.node, 2 * index.nbytes(nodes[item.node].output[0]), item.reason, item.mend)


def _mend(index: Index, node: NodeProto) -> str:
    """The nearest change: what stands beside a DQ in float, or who reads in float what a Q reads."""
    if node.op_type == DEQUANTIZE:
        for reader in index.readers.get(node.output[0], ()):
            for tensor in reader.input if reader.op_type in ("Add", "Mul") else ():
                if tensor != node.output[0] and not index.is_weight(tensor) and not _is_dq(index, tensor):
                    return f"quantize {tensor}, the other input of {reader.name}, or leave both in float"
            if reader.op_type != QUANTIZE:
                return f"quantize what {reader.name} writes, or leave its input in float"
        return "leave it out"
    for reader in index.readers.get(node.input[0], ()):
        if reader.op_type != QUANTIZE:
            return f"quantize {node.input[0]} at {reader.name} with the same scale"
    others = [r.name for r in index.readers.get(node.input[0], ()) if r.name != node.name]
    if others:
        return f"give it and {others[0]} one scale"
    maker = index.makers.get(node.input[0])
    return f"quantize the inputs of {maker.name}, or leave its output in float" if maker is not None else "leave it out"


def _is_dq(index: Index, tensor: str) -> bool:
    maker = index.makers.get(tensor)
    return maker is not None and maker.op_type == DEQUANTIZE
