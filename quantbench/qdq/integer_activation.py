"""Move ReLU, Clip and MaxPool behind the Q that follows them, where they run on integers; the numbers stay the same.

Quantizing is monotonic and saturating, so Q(max(x, 0)) = max(Q(x), Q(0)), Q(min(x, c)) = min(Q(x), Q(c)) and
Q(maxpool(x)) = maxpool(Q(x)). With Q right behind the conv, onnxruntime fuses DQ, Conv and Q into QLinearConv; with an
activation in between it does not (onnxruntime 1.31: FusedConv in float), unless the zero point is the lowest level.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantbench.graph.ops import BIASED
from quantbench.graph.surgery import edited

_MOVED = ("Relu", "Clip", "MaxPool")


def activations_on_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model` in which every Relu, Clip or MaxPool between a conv or Gemm and its only Q is integer.

    Works on Q of either sign. What has other readers, or bounds that are no constants, stays where it is.
    """
    return edited(model, _pull_all_up)


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
    if not chain or not tensor.inputs or tensor.inputs[0].op not in BIASED:
        return
    if len(tensor.outputs) != 1:
        return
    levels = quantize.inputs[2].values.dtype
    result = quantize.outputs[0]
    quantize.inputs[0] = tensor
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


def _movable(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    node = tensor.inputs[0]
    if node.op not in _MOVED or len(tensor.outputs) != 1 or len(node.outputs) != 1 or tensor in graph.outputs:
        return False
    return all(isinstance(bound, gs.Constant) or bound.is_empty() for bound in node.inputs[1:])


def _integer_twin(graph: gs.Graph, node: gs.Node, source: gs.Tensor, target: gs.Tensor, quantize: gs.Node) -> None:
    if node.op == "MaxPool":
        graph.nodes.append(gs.Node("MaxPool", f"{node.name}_integer", dict(node.attrs), [source], [target]))
        return
    zero = quantize.inputs[2]
    low: gs.Tensor = zero
    high: gs.Tensor | None = None
    if node.op == "Clip":
        bounds = [*node.inputs[1:], None, None][:2]
        low = _level(bounds[0], quantize, f"{node.name}_min")
        high = _level(bounds[1], quantize, f"{node.name}_max")
    inputs = [source, low] if high is None else [source, low, high]
    graph.nodes.append(gs.Node("Clip", f"{node.name}_integer", {}, inputs, [target]))


def _level(bound: gs.Tensor | None, quantize: gs.Node, name: str) -> gs.Tensor | None:
    """The constant `bound` as a quantized level, None where there is none."""
    if not isinstance(bound, gs.Constant):
        return None if name.endswith("_max") else gs.Variable.empty()
    scale, zero = quantize.inputs[1].values.astype(np.float32), quantize.inputs[2].values
    info = np.iinfo(zero.dtype)
    level = np.rint(np.asarray(bound.values, np.float32) / scale) + zero.astype(np.float32)
    return gs.Constant(name, np.asarray(np.clip(level, info.min, info.max), zero.dtype).reshape(()))
