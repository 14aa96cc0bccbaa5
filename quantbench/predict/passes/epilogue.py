"""Epilogue: what happens once everything is quantized that can be.

1. ConvEltwiseSumFusion: an Add goes into a conv that feeds it; the other input becomes the conv's residual input. Of
   two convs the later one in network order takes it.
2. ConvActPoolFusion: an INT8 stem (up to 4 input channels) with its Relu takes the MaxPool behind it.
3. QDQToCopy: a Q or DQ that no layer took becomes a kernel of its own, a Reformat with `Origin: QDQ`.
4. FCToConvTransform: a Gemm of N, C, 1, 1 becomes a 1x1 convolution, and the Flatten before it a view.
5. Merging layers: convs that read one tensor, of one geometry and one precision, become one (`A || B`), eight at most.
   INT8 outputs of unequal scales cannot be one layer's output (NVIDIA/TensorRT issue 1602).
"""

from collections.abc import Hashable

from quantbench.graph.ops import CONVS, DEQUANTIZE, QUANTIZE, SHUFFLES
from quantbench.predict.net import Net, Op
from quantbench.predict.passes.quantize import SUM
from quantbench.predict.versions import Version

POOL = "ConvActPoolFusion"
COPY = "QDQToCopy"
FC = "FCToConvTransform"
MERGING = "Merging layers"
_STEM_CHANNELS = 4
_MOST_MERGED = 8
_GEOMETRY = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")


def sums_and_pools(net: Net, version: Version) -> None:
    """Rules 1 (not on Blackwell) and 2."""
    for add in () if version.whole_network_in_myelin else net.of_kind("Add", "Sum"):
        if len(add.inputs) != 2 or add.int8_in or not net.same_shape(add.inputs[0], add.inputs[1]):
            continue
        makers = [net.producer(t) for t in add.inputs]
        convs = [c for c in makers if c is not None and _may_take(net, c, add)]
        if convs:
            _sum(net, max(convs, key=lambda op: op.order), add, len(convs))
    for op in net.of_kind("Conv"):
        _pool(net, op)


def leftovers(net: Net) -> None:
    """Rule 3: they stay in the Net and become Reformat layers."""
    for op in net.of_kind(QUANTIZE, DEQUANTIZE):
        net.step(COPY, "copy", op.name)
        net.note(op.name, "left-over")


def transforms(net: Net) -> None:
    """Rules 4 and 5."""
    for op in net.of_kind("Gemm"):
        shuffle = net.producer(op.inputs[0])
        if shuffle is None or shuffle.kind not in SHUFFLES or net.only_reader(shuffle.out) is not op:
            continue
        shape = net.shape(shuffle.inputs[0])
        if shape is not None and len(shape) == 4 and shape[2:] == (1, 1):
            net.step(FC, "retype", op.name, shuffle.name)
            shuffle.kind = "View"
    groups: dict[Hashable, list[Op]] = {}
    for op in net.of_kind("Conv"):
        plain = op.activation in ("", "Relu") and int(op.attributes.get("group", 1)) == 1
        if plain and not op.residual:
            groups.setdefault(_key(net, op), []).append(op)
    for siblings in groups.values():
        for first in range(0, len(siblings), _MOST_MERGED):
            if len(siblings) - first > 1:
                _merge(net, siblings[first : first + _MOST_MERGED])


def _may_take(net: Net, conv: Op, add: Op) -> bool:
    return (
        conv.kind in CONVS
        and not conv.activation
        and not conv.int8_out
        and not conv.residual
        and net.only_reader(conv.out) is add
        and all(t not in net.constants for t in add.inputs)
    )


def _sum(net: Net, conv: Op, add: Op, choices: int) -> None:
    other = next(t for t in add.inputs if t != conv.out)
    net.step(SUM, "fuse", conv.name, add.name)
    net.absorb(conv, add, f"{conv.name} + {add.name}")
    net.add_input(conv, other)
    conv.residual, conv.activation, conv.order = other, add.activation, add.order
    conv.traits += [*add.traits, "sum-of-two" if choices > 1 else "sum"]


def _pool(net: Net, op: Op) -> None:
    pool = net.only_reader(op.out)
    shape = net.shape(op.inputs[0])
    if pool is None or pool.kind != "MaxPool" or not (op.int8_in and op.int8_out and op.activation == "Relu"):
        return
    if shape is not None and len(shape) == 4 and isinstance(shape[1], int) and shape[1] <= _STEM_CHANNELS:
        net.step(POOL, "fuse", op.name, pool.name)
        net.absorb(op, pool, f"{op.name} + {pool.name}")
        op.traits.append("stem-pool")


def _key(net: Net, op: Op) -> Hashable:
    geometry = tuple((k, v if isinstance(v, (str, int)) else tuple(v or ())) for k in _GEOMETRY
                     for v in [op.attributes.get(k, ())])  # fmt: skip
    out = (net.shape(op.out) or ())[2:]
    kernel = (net.shape(op.constants[0]) or ())[2:] if op.constants else ()
    return (op.inputs[0], geometry, kernel, out, op.int8_in, op.int8_out, op.out_scale, op.activation)


def _merge(net: Net, siblings: list[Op]) -> None:
    first = siblings[0]
    net.step(MERGING, "merge", first.name, *(op.name for op in siblings[1:]))
    first.traits.append("merged-convs")
    for op in siblings[1:]:
        net.remove(op)
        first.name = f"{first.name} || {op.name}"
        first.nodes.extend(op.nodes)
        first.constants.extend(op.constants)
    outputs = [op.out for op in siblings]
    net.remove(first)
    first.outputs = outputs
    net.add(first)
