"""Which tensors of a network a calibration cache speaks of, and which of them TensorRT's fusions swallow."""

from quantbench.graph.ops import AFFINE, FUSED, WEIGHTED
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.rules.residual import residual_index


def activations(view: GraphView) -> tuple[str, ...]:
    """Float tensors that are no constants: inputs of the graph, then outputs of the nodes in topological order."""
    names = dict.fromkeys([*view.inputs, *(out for node in view.nodes for out in node.outputs if out)])
    return tuple(name for name in names if _is_float(view, name) and not view.is_constant(name))


def superseded(view: GraphView) -> dict[str, str]:
    """Tensor inside a fused layer to the layer's output, which takes over its range.

    From each weighted op on: batch norms, arithmetic with constants, the residual Add of the branch that ends in that
    op, and one activation (Swish as Sigmoid and Mul too), which ends the fusion, as long as nobody else reads the
    tensor in between.
    """
    position = {node.name: i for i, node in enumerate(view.nodes)}
    found: dict[str, str] = {}
    for node in view.nodes:
        if node.op not in WEIGHTED or not node.outputs:
            continue
        inner: list[str] = []
        tensor, ended = node.outputs[0], False
        while not ended and (step := _next(view, tensor, position)) is not None:
            swallowed, tensor, ended = step
            inner.extend(swallowed)
        found.update(dict.fromkeys(inner, tensor))
    return found


def _next(view: GraphView, tensor: str, position: dict[str, int]) -> tuple[list[str], str, bool] | None:
    """What the next fusion after `tensor` swallows, its output, and whether it is the last; None for no fusion."""
    if tensor in view.outputs:
        return None
    readers = [node for node, _ in view.readers(tensor)]
    swish = _swish(view, tensor, readers)
    if swish is not None:
        return swish
    if len(readers) != 1:
        return None
    (node,) = readers
    if node.op in FUSED and node.inputs[0] == tensor:
        return [tensor], node.outputs[0], node.op != "BatchNormalization"
    if node.op in AFFINE and len(node.inputs) == 2:
        other = node.inputs[1] if node.inputs[0] == tensor else node.inputs[0]
        if view.is_constant(other):
            return [tensor], node.outputs[0], False
        residual = residual_index(view, node, position) if node.op == "Add" and other != tensor else None
        if residual is not None and node.inputs[residual] != tensor:
            return [tensor], node.outputs[0], False
    return None


def _swish(view: GraphView, tensor: str, readers: list[NodeView]) -> tuple[list[str], str, bool] | None:
    """x * sigmoid(x), as exporters spell it."""
    if len(readers) != 2 or {node.op for node in readers} != {"Sigmoid", "Mul"}:
        return None
    gate, product = sorted(readers, key=lambda node: node.op, reverse=True)
    gated = gate.outputs[0]
    if set(product.inputs) != {tensor, gated} or len(view.readers(gated)) != 1 or gated in view.outputs:
        return None
    return [tensor, gated], product.outputs[0], True


def _is_float(view: GraphView, name: str) -> bool:
    tensor = view.tensors.get(name)
    return tensor is None or "float" in tensor.dtype
