"""Put back the ReLUs that a quantizer left to Q: onnxruntime drops a Relu or Clip when the grid behind it begins at 0.

Such a Q clamps at zero, so the model without it needs the Relu again. An upper bound that was dropped with it (ReLU6)
is where INT8 saturates anyway.
"""

import onnx
from onnx import helper

from quantbench.graph.ops import Sign, sign_of


def restore_relus(graph: onnx.GraphProto, clamped: set[str]) -> list[str]:
    """Insert a Relu in front of each tensor of `clamped` that can be negative; return these tensors.

    The Relu takes over the tensor's name, its producer's output becomes `<name>_before_relu`. Tensors without a
    producer (graph inputs) are left alone. `graph` is changed in place.
    """
    positive: set[str] = set()
    restored: list[str] = []
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        sign = sign_of(node.op_type)
        signless = sign is Sign.POSITIVE or _is_clip_from_zero(node, graph)
        data = [name for name in node.input if name]
        if sign is Sign.FIRST:
            data = data[:1]
        if signless or (sign is not Sign.ANY and all(name in positive for name in data)):
            positive.update(node.output)
        for index, name in enumerate(node.output):
            if name in clamped and name not in positive:
                before = f"{name}_before_relu"
                node.output[index] = before
                nodes.append(helper.make_node("Relu", [before], [name], name=f"{name}_Relu"))
                positive.add(name)
                restored.append(name)
    del graph.node[:]
    graph.node.extend(nodes)
    return restored


def _is_clip_from_zero(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    if node.op_type != "Clip" or len(node.input) < 2:
        return False
    low = next((t for t in graph.initializer if t.name == node.input[1]), None)
    return low is not None and onnx.numpy_helper.to_array(low).item() >= 0
