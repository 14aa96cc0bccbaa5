"""Give every quantized weight a Q, DQ, scale and zero point of its own for each layer that reads it."""

import onnx
import onnx_graphsurgeon as gs

from quantbench.graph.surgery import edited


def own_zero_points(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which no two weights share an initializer, and no two layers a quantized weight.

    onnxruntime, where it moves weights from S8 to U8 (`session.x64quantprecision` on processors without VNNI), adds the
    moved zero point and weight under names made of the old ones, and refuses the second layer that has the same.
    """
    return edited(model, _own_constants)


def _own_constants(graph: gs.Graph) -> None:
    count = 0
    for dequantize in list(graph.nodes):
        chain = _weight_chain(dequantize)
        if not chain:
            continue
        made = dequantize.outputs[0]
        for position, reader in enumerate(dict.fromkeys(map(id, made.outputs))):
            node = next(n for n in made.outputs if id(n) == reader)
            count += 1
            if position:
                own = _copied(graph, chain, f"own{count}")
                node.inputs = [own if tensor is made else tensor for tensor in node.inputs]
            else:
                _with_own_constants(chain, f"own{count}")


def _weight_chain(node: gs.Node) -> list[gs.Node]:
    """DQ alone, or Q and DQ, of a constant; [] where `node` is no such DQ."""
    if node.op != "DequantizeLinear":
        return []
    source = node.inputs[0]
    if isinstance(source, gs.Constant):
        return [node]
    quantize = source.inputs[0] if source.inputs else None
    known = quantize is not None and quantize.op == "QuantizeLinear" and isinstance(quantize.inputs[0], gs.Constant)
    return [quantize, node] if known else []


def _with_own_constants(chain: list[gs.Node], name: str) -> None:
    own: dict[int, gs.Constant] = {}
    for node in chain:
        node.inputs = [_own(tensor, own, name) for tensor in node.inputs]


def _copied(graph: gs.Graph, chain: list[gs.Node], name: str) -> gs.Tensor:
    """Nodes of `chain` once more, with constants of their own; returns what they make."""
    own: dict[int, gs.Constant] = {}
    source: gs.Tensor | None = None
    for node in chain:
        inputs = [_own(tensor, own, name) for tensor in node.inputs]
        if source is not None:
            inputs[0] = source
        old = node.outputs[0]
        source = gs.Variable(f"{old.name}_{name}", old.dtype, old.shape)
        graph.nodes.append(gs.Node(node.op, f"{node.name}_{name}", dict(node.attrs), inputs, [source]))
    assert source is not None
    return source


def _own(tensor: gs.Tensor, own: dict[int, gs.Constant], name: str) -> gs.Tensor:
    if not isinstance(tensor, gs.Constant):
        return tensor
    return own.setdefault(id(tensor), gs.Constant(f"{tensor.name}_{name}", tensor.values))
