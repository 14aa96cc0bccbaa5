"""Q/DQ where other tools, or nobody, would put them: at any input, or behind any output, with scales of their own."""

import random
from collections.abc import Set

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantbench.graph.onnx_view import view_of
from quantbench.graph.surgery import copied

LAYERS = frozenset({"Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "Resize", "MaxPool"})


def misplaced(model: onnx.ModelProto, seed: int, ops: Set[str] = LAYERS, *, behind: bool = False) -> onnx.ModelProto:
    """A copy of `model` with Q and DQ at about half of the float inputs of nodes of `ops` (`behind`: of their outputs).
    Readers of one tensor share a pair mostly, not always."""
    rng = random.Random(seed)
    tensors = view_of(model).tensors
    result = copied(model)
    graph = result.graph
    outputs = {value.name for value in graph.output}
    nodes: list[onnx.NodeProto] = []
    made: dict[str, str] = {}

    def float_tensor(name: str) -> bool:
        return name in tensors and tensors[name].dtype == "float32"

    def pair(tensor: str) -> str:
        stem = f"{tensor}.{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(np.float32(rng.uniform(0.01, 0.1)), f"{stem}_scale"))
        graph.initializer.append(numpy_helper.from_array(np.int8(0), f"{stem}_zero"))
        rest = [f"{stem}_scale", f"{stem}_zero"]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *rest], [f"{stem}_quantized"], f"{stem}_Q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{stem}_quantized", *rest], [f"{stem}_dequantized"],
                                      f"{stem}_DQ"))  # fmt: skip
        return f"{stem}_dequantized"

    for node in list(graph.node):
        for index, name in enumerate(node.input) if node.op_type in ops and not behind else ():
            bias = node.op_type in ("Conv", "Gemm") and index == 2
            if bias or not float_tensor(name) or rng.random() < 0.5:
                continue
            if name not in made or rng.random() < 0.3:
                made[name] = pair(name)
            node.input[index] = made[name]
        nodes.append(node)
        out = node.output[0]
        if behind and node.op_type in ops and float_tensor(out) and out not in outputs and rng.random() < 0.5:
            found = pair(out)
            for other in graph.node:
                other.input[:] = [found if name == out else name for name in other.input]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return result
