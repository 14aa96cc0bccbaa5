"""Move ReLU, Clip and MaxPool behind the Q that follows them, where they run on integers; the numbers stay the same.

Quantizing is monotonic and saturating, so Q(max(x, 0)) = max(Q(x), Q(0)), Q(min(x, c)) = min(Q(x), Q(c)) and
Q(maxpool(x)) = maxpool(Q(x)). With Q right behind the conv, onnxruntime fuses DQ, Conv and Q into QLinearConv; with an
activation in between it does not (onnxruntime 1.31: FusedConv in float), unless the zero point is the lowest level.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantbench.graph.ops import BIASED, KEEPS_VALUES
from quantbench.graph.surgery import edited
from quantbench.qdq.reencode import reencode

# What onnxruntime computes on integers where all inputs come from DQ and the output goes into Q.
_ON_INTEGERS = frozenset({
    "Add", "Mul", "Sigmoid", "LeakyRelu", "AveragePool", "GlobalAveragePool", "Concat", "MatMul", *KEEPS_VALUES,
})  # fmt: skip
_MOVED = ("Relu", "Clip", "MaxPool")


def activations_on_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model` in which every Relu, Clip or MaxPool between a conv or Gemm and its only Q is integer.

    Works on Q of either sign. What has other readers, or bounds that are no constants, stays where it is.
    """
    return edited(model, _pull_all_up)


def on_u8(model: onnx.ModelProto) -> onnx.ModelProto:
    """`activations_on_integers` of `to_u8_activations` of `model`, in one go."""
    return edited(model, reencode, _pull_all_up)


def _pull_all_up(graph: gs.Graph) -> None:
    for node in list(graph.nodes):
        if node.op == "QuantizeLinear" and len(node.inputs) == 3 and isinstance(node.inputs[2], gs.Constant):
            _pull_up(graph, node)


def _pull_up(graph: gs.Graph, quantize: gs.Node) -> None:
    chain: list[gs.Node] = []
    tensor = quantize.inputs[0]
    while tensor.inputs and _movable(graph, tensor):
        chain.append(tensor.inputs[0])
        tensor = tensor.inputs[0].inputs[0]
    if not chain or not tensor.inputs or not _ends_in_integers(tensor.inputs[0]):
        return
    if len(tensor.outputs) != 1:
        return
    levels = quantize.inputs[2].values.dtype
    result = quantize.outputs[0]
    chain = [node for node in chain if not _saturation_does_it(node, quantize)]
    quantize.inputs[0] = tensor
    if not chain:
        return
    current = gs.Variable(f"{result.name}_raw", dtype=levels)
    quantize.outputs[0] = current
    for step, node in enumerate(reversed(chain)):
        last = step == len(chain) - 1
        output = result if last else gs.Variable(f"{node.outputs[0].name}_integer", dtype=levels)
        if not last:
            output.shape = node.outputs[0].shape
        current.shape = node.inputs[0].shape
        _integer_twin(graph, node, current, output, quantize)
        node.outputs.clear()
        current = output


def _ends_in_integers(node: gs.Node) -> bool:
    """Whether onnxruntime makes one integer kernel of `node` and a Q right behind it."""
    if node.op in BIASED:
        return True
    return node.op in _ON_INTEGERS and all(t.inputs and t.inputs[0].op == "DequantizeLinear" for t in node.inputs)


def _movable(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    node = tensor.inputs[0]
    if node.op not in _MOVED or len(tensor.outputs) != 1 or len(node.outputs) != 1 or tensor in graph.outputs:
        return False
    return all(isinstance(bound, gs.Constant) or bound.is_empty() for bound in node.inputs[1:])


def _saturation_does_it(node: gs.Node, quantize: gs.Node) -> bool:
    """Whether a Relu or Clip keeps all levels that there are, so that quantizing clips as it does; takes it out."""
    if node.op == "MaxPool":
        return False
    info = np.iinfo(quantize.inputs[2].values.dtype)
    low, high = _levels(node, quantize)
    below = low is None or int(low.values.reshape(-1)[0]) <= info.min
    if not below or (high is not None and int(high.values.reshape(-1)[0]) < info.max):
        return False
    node.outputs.clear()
    return True


def _levels(node: gs.Node, quantize: gs.Node) -> tuple[gs.Constant | None, gs.Constant | None]:
    """Lowest and highest level that a Relu or Clip lets pass; None where it has no such bound."""
    if node.op == "Relu":
        return quantize.inputs[2], None
    bounds = [*node.inputs[1:], None, None][:2]
    low, high = (_level(b, quantize, f"{node.name}_{end}") for b, end in zip(bounds, ("min", "max"), strict=True))
    return low, high


def _integer_twin(graph: gs.Graph, node: gs.Node, source: gs.Tensor, target: gs.Tensor, quantize: gs.Node) -> None:
    if node.op == "MaxPool":
        graph.nodes.append(gs.Node("MaxPool", f"{node.name}_integer", dict(node.attrs), [source], [target]))
        return
    low, high = _levels(node, quantize)
    inputs = [source, low if low is not None else gs.Variable.empty()]
    inputs += [high] if high is not None else []
    graph.nodes.append(gs.Node("Clip", f"{node.name}_integer", {}, inputs, [target]))


def _level(bound: gs.Tensor | None, quantize: gs.Node, name: str) -> gs.Constant | None:
    """The constant `bound` as a quantized level, None where there is none."""
    if not isinstance(bound, gs.Constant):
        return None
    scale, zero = quantize.inputs[1].values.astype(np.float32), quantize.inputs[2].values
    info = np.iinfo(zero.dtype)
    level = np.rint(np.asarray(bound.values, np.float32) / scale) + zero.astype(np.float32)
    return gs.Constant(name, np.asarray(np.clip(level, info.min, info.max), zero.dtype).reshape(()))
