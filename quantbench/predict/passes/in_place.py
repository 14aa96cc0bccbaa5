"""Slice and concat elimination: views and in-place writes instead of copies."""

from quantbench.predict.net import Net, Op

# trt852 log: "Generating copy for ... because input does not support striding" (the inputs come from Resize).
_NO_STRIDES = frozenset({"Resize", "MaxPool", "Concat", "InPlace"})

_WITH_STEPS = 5  # inputs of an ONNX Slice that states steps: data, starts, ends, axes, steps


def run(net: Net) -> None:
    """Remove concats (inputs are written in place, with a copy where the writer cannot) and slices read elsewhere."""
    for op in reversed(net.of_kind("Concat")):
        _concat(net, op)
    for op in net.of_kind("Slice"):
        # A slice that feeds a concat is the copy into it; one with steps is no view.
        copying = any(r.kind in ("Copy", "InPlace") for r in net.readers(op.out))
        if op.out not in net.outputs and not copying and len(op.inputs) < _WITH_STEPS:
            net.step("Eliminating slice", "remove", op.name)
            op.kind = "View"


def _concat(net: Net, concat: Op) -> None:
    net.step("Eliminating concatenation", "remove", concat.name)
    copied: set[str] = set()
    for index, tensor in enumerate(concat.inputs):
        maker = net.producer(tensor)
        shared = any(r.kind == "InPlace" for r in net.readers(tensor))
        if maker is None or maker.kind in _NO_STRIDES or shared or tensor in copied:
            _copy(net, concat, index, tensor)
        copied.add(tensor)
    concat.kind = "InPlace"


def _copy(net: Net, concat: Op, index: int, tensor: str) -> None:
    output = f"{tensor} in {concat.out}" if index == 0 else f"{tensor} in {concat.out} {index}"
    net.like(output, tensor)
    net.step("Eliminating concatenation", "copy", concat.name, tensor)
    net.set_input(concat, index, output)
    net.add(Op("Copy", f"{tensor} copy", [tensor], [output], concat.order - 0.1 + index / 1000, []))
