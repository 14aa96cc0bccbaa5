"""A Plan carried out on a GraphView, without ranges and weights: the Q/DQ network to predict. And the way back."""

from collections.abc import Hashable
from dataclasses import replace

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.graph.view import GraphView, NodeView, TensorView
from quantbench.qdq.plan import Plan


def with_qdq(view: GraphView, plan: Plan) -> tuple[GraphView, dict[str, Hashable]]:
    """`view` with the Q/DQ that `quantbench.qdq.insert.insert_qdq` would insert, and scale keys for `predict`.

    Names are those of the inserted nodes. Members of one group have one scale, whatever calibration would find.
    """
    tensors = dict(view.tensors)
    scales: dict[str, Hashable] = {}
    replaced: dict[tuple[str, int], str] = {}
    groups = {site.tensor: site.group for site in plan.activations}
    wanted: dict[str, list[tuple[str, bool]]] = {}
    for site in plan.activations:
        replaced[site.node, site.index] = f"{site.tensor}_{'quantized' if site.alone else 'dequantized'}"
        wanted.setdefault(site.node, []).append((site.tensor, False))
    for weight in plan.weights:
        replaced[weight.node, weight.index] = f"{weight.tensor}_dequantized"
        wanted.setdefault(weight.node, []).append((weight.tensor, True))
    nodes: list[NodeView] = []
    done: set[str] = set()
    for node in view.nodes:
        for tensor, constant in wanted.get(node.name, ()):
            if tensor not in done:
                done.add(tensor)
                key = ("weight", tensor) if constant else ("group", groups[tensor])
                nodes.extend(_pair(tensor, constant, tensors, scales, key))
        inputs = tuple(replaced.get((node.name, i), name) for i, name in enumerate(node.inputs))
        nodes.append(NodeView(node.name, node.op, inputs, node.outputs, node.attributes))
    return GraphView(tuple(nodes), tensors, view.inputs, view.outputs), scales


def _pair(
    tensor: str, constant: bool, tensors: dict[str, TensorView], scales: dict[str, Hashable], key: Hashable
) -> tuple[NodeView, NodeView]:
    known = tensors.get(tensor, TensorView(tensor))
    scale, quantized, result = f"{tensor}_scale", f"{tensor}_quantized", f"{tensor}_dequantized"
    tensors[scale] = TensorView(scale, (), known.dtype, constant=True)
    tensors[quantized] = TensorView(quantized, known.shape, "int8", constant)
    tensors[result] = TensorView(result, known.shape, known.dtype, constant)
    q, dq = f"{tensor}_{QUANTIZE}", f"{tensor}_{DEQUANTIZE}"
    scales[q] = scales[dq] = key
    return NodeView(q, QUANTIZE, (tensor, scale), (quantized,)), NodeView(dq, DEQUANTIZE, (quantized, scale), (result,))


def without_qdq(view: GraphView) -> GraphView:
    """`view` without its Q and DQ, as if they had never been placed; the values are of no concern here."""
    same: dict[str, str] = {}
    tensors = dict(view.tensors)
    kept: list[NodeView] = []
    for node in view.nodes:
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            source = same.get(node.inputs[0], node.inputs[0])
            same[node.outputs[0]] = source
            if source in tensors and tensors[source].dtype in ("int8", "uint8"):
                # Weights stored in INT8: what their DQ makes of them is a float constant of the same shape.
                tensors[source] = replace(tensors[source], dtype="float32")
            continue
        kept.append(replace(node, inputs=tuple(same.get(name, name) for name in node.inputs)))
    outputs = tuple(same.get(name, name) for name in view.outputs)
    return GraphView(tuple(kept), tensors, view.inputs, outputs)
