"""A Net of a GraphView: Constant nodes folded, Split as Slices, each Q and DQ with the key of its scale."""

from collections.abc import Hashable, Mapping

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE, SHUFFLES
from quantbench.graph.view import GraphView, NodeView
from quantbench.predict.net import Net, Op


def net_of(view: GraphView, scales: Mapping[str, Hashable] | None = None) -> Net:
    """Build the Net. `scales` maps a Q or DQ node to a key of its scale (equal keys: equal scales); where it says
    nothing, the name of the scale tensor is the key, and two Qs of one tensor count as equal."""
    net = Net(view.tensors, view.inputs, view.outputs)
    net.constants = {name for name, tensor in view.tensors.items() if tensor.constant}
    for node in view.nodes:
        if node.op == "Constant":
            net.constants.update(node.outputs)
    given = scales or {}
    for order, node in enumerate(view.nodes):
        if node.op in (QUANTIZE, DEQUANTIZE):
            _add_qdq(net, node, order, given, view)
        elif node.op == "Split":
            _add_split(net, node, order)
        elif _moves_weights(net, node):
            # Behind the DQ of weights: it is there to be moved past, so what it writes is no constant yet.
            net.add(Op(node.op, node.name, [node.inputs[0]], [node.outputs[0]], order, [node.name], node.attributes))
            net.constants.difference_update(node.outputs)
            continue
        elif node.op != "Constant" and not _constant(net, node):
            folded = _computed_parameters(view, node)
            kind, name = ("UnfoldedBN", " + ".join([*folded, node.name])) if folded else (node.op, node.name)
            inputs, outputs = [i for i in node.inputs if i], [o for o in node.outputs if o]
            net.add(Op(kind, name, inputs, outputs, order, [node.name, *folded], node.attributes))
        if _constant(net, node):
            net.constants.update(o for o in node.outputs if o)
    return net


def _computed_parameters(view: GraphView, node: NodeView) -> list[str]:
    """Nodes that make parameters of a BatchNormalization (an Identity of a shared bias). TensorRT's parser then
    writes it out as elementwise layers, which no conv takes in (trt852 log, layer2.0.downsample.1)."""
    if node.op != "BatchNormalization":
        return []
    makers = [view.producers[name] for name in node.inputs[1:] if name in view.producers]
    return [maker.name for maker in makers if maker.op != "Constant"]


def _constant(net: Net, node: NodeView) -> bool:
    return bool(node.inputs) and all(not name or name in net.constants for name in node.inputs)


def _moves_weights(net: Net, node: NodeView) -> bool:
    """Whether `node` transposes or reshapes what a DQ makes of constants, as torch exports a Linear."""
    maker = net.producer(node.inputs[0]) if node.inputs else None
    if node.op not in SHUFFLES or maker is None or any(i not in net.constants for i in node.inputs[1:] if i):
        return False
    if maker.kind in SHUFFLES:
        return _behind_weights(net, maker)
    return maker.is_dq and maker.inputs[0] in net.constants


def _behind_weights(net: Net, op: Op) -> bool:
    maker = net.producer(op.inputs[0])
    return maker is not None and maker.is_dq and maker.inputs[0] in net.constants


def _add_qdq(net: Net, node: NodeView, order: int, scales: Mapping[str, Hashable], view: GraphView) -> None:
    tensor = node.inputs[0]
    key = scales.get(node.name)
    if key is None and node.op == QUANTIZE:
        key = ("tensor", tensor) if tensor not in net.constants else ("weight", node.inputs[1])
    elif key is None:
        maker = net.producer(tensor)
        key = maker.scale if maker is not None else ("weight", node.inputs[1])
    op = Op(node.op, node.name, [tensor], [node.outputs[0]], order, [node.name], node.attributes, scale=key)
    net.add(op)
    if node.outputs[0] not in net.tensors and tensor in net.tensors:
        net.like(node.outputs[0], tensor)


def _add_split(net: Net, node: NodeView, order: int) -> None:
    """TensorRT has no Split: one Slice an output, the second and later ones with a number."""
    for index, output in enumerate(o for o in node.outputs if o):
        name = node.name if index == 0 else f"{node.name}_{index}"
        net.add(Op("Slice", name, [node.inputs[0]], [output], order + index / 1000, [node.name], node.attributes))
