"""Give every weight's Q and DQ a zero point of their own."""

import onnx


def own_zero_points(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which no two weights share the initializer of a zero point per channel.

    onnxruntime, where it moves weights from S8 to U8 (`session.x64quantprecision` on processors without VNNI), adds the
    moved zero point under a name made of the old one, and refuses the second weight that has the same.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in copy.graph.initializer}
    owner: dict[tuple[str, str], str] = {}  # (quantized tensor, zero point) -> name of its own copy
    for node in copy.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        zero = stored.get(node.input[2])
        if zero is None:
            continue
        quantized = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        key = (quantized, zero.name)
        if key not in owner:
            own = onnx.TensorProto()
            own.CopyFrom(zero)
            own.name = owner[key] = f"{zero.name}_of_{quantized}"
            copy.graph.initializer.append(own)
        node.input[2] = owner[key]
    return copy
