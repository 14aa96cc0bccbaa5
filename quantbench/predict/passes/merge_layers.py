"""Merging layers: convs of one input with equal geometry become one (`A || B`)."""

from collections.abc import Hashable

from quantbench.predict.net import Net, Op

NAME = "Merging layers"
_GEOMETRY = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")


def run(net: Net) -> None:
    """Merge siblings that read one tensor, compute in one precision and write one precision.

    INT8 outputs of different scales cannot be one layer's output (NVIDIA/TensorRT issue 1602); the yolov8 log merges
    the head's INT8 convs with float outputs among themselves and its float convs among themselves.
    """
    groups: dict[Hashable, list[Op]] = {}
    for op in net.of_kind("Conv"):
        plain = op.activation in ("", "Relu") and int(op.attributes.get("group", 1)) == 1
        if plain and not op.residual:
            groups.setdefault(_key(net, op), []).append(op)
    for siblings in groups.values():
        if len(siblings) > 1:
            _merge(net, siblings)


def _key(net: Net, op: Op) -> Hashable:
    geometry = tuple((k, v if isinstance(v, (str, int)) else tuple(v or ())) for k in _GEOMETRY
                     for v in [op.attributes.get(k, ())])  # fmt: skip
    out = (net.shape(op.out) or ())[2:]
    kernel = (net.shape(op.constants[0]) or ())[2:] if op.constants else ()
    return (op.inputs[0], geometry, kernel, out, op.int8_in, op.int8_out, op.out_scale, op.activation)


def _merge(net: Net, siblings: list[Op]) -> None:
    first = siblings[0]
    net.step(NAME, "merge", first.name, *(op.name for op in siblings[1:]))
    first.guess = first.guess or "whether parallel convs merge also depends on kernels"
    for op in siblings[1:]:
        net.remove(op)
        first.name = f"{first.name} || {op.name}"
        first.nodes.extend(op.nodes)
        first.constants.extend(op.constants)
    outputs = [op.out for op in siblings]
    net.remove(first)
    first.outputs = outputs
    net.add(first)
