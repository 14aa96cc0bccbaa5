"""Slice and concat elimination: views and in-place writes instead of copies."""

from quantbench.predict.net import Net, Op

# trt852 log: "Generating copy for ... because input does not support striding" (the inputs come from Resize).
# A slice is part of another tensor already: YOLO engines show `/model.2/Split_output_0 copy` where a C2f block joins
# its halves, and no Slice layer before its convs (nor does the yolov8 log's list of layers).
_NO_STRIDES = frozenset({"Resize", "MaxPool", "Concat", "InPlace", "View"})

_WITH_STEPS = 5  # inputs of an ONNX Slice that states steps: data, starts, ends, axes, steps


def run(net: Net) -> None:
    """Slices become views of what they slice, unless they have steps; then concats go: their inputs are written in
    place, with a copy where the writer cannot. In the logs too slice removal stands before concat removal."""
    for op in net.of_kind("Slice"):
        if op.out not in net.outputs and _contiguous(net, op):
            net.step("Eliminating slice", "remove", op.name)
            op.kind = "View"
    for op in reversed(net.of_kind("Concat")):
        _concat(net, op)


def _contiguous(net: Net, op: Op) -> bool:
    """Without steps; torch states them always, so a slice of channels counts too (one of rows or columns may skip)."""
    before, after = net.shape(op.inputs[0]), net.shape(op.out)
    if len(op.inputs) < _WITH_STEPS:
        return True
    return before is not None and after is not None and (before[:1], before[2:]) == (after[:1], after[2:])


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
