"""Memory: views and in-place writes instead of copies, and reformats between formats that nothing avoids.

TensorRT chooses formats by timing; rules 3 to 8 say only what the formats of the kernels leave no way around.

1. Eliminating slice: a Slice without steps is a view of what it slices. What cannot read with strides (Softmax, Resize,
   TopK) needs a copy: "Replacing slice ... with copy".
2. Eliminating concatenation: inputs of a Concat are written in place. A copy is made where the writer cannot write with
   strides (Resize, MaxPool, another Concat, a view, a network input), where another layer reads the input too, and in
   INT8 where an input that is not the last ends inside a vector of 32 channels ("stomping hazard").
3. FP16 builds: INT8 convs that write float write CHW32; float poolings have no CHW32 kernel: a reformat between them.
4. FP16 builds: a float conv reads and writes channels last: a reformat before it where an INT8 conv wrote CHW32 or the
   network's input is read, one behind it where the network returns what it writes.
5. FP16 builds: a Shuffle (Transpose) is linear: a reformat before it where an INT8 conv wrote CHW32.
6. FP16 builds: an INT8 ConvTranspose writes linear FP32, a Scale behind it reads FP16: a reformat.
7. FP16 builds: Myelin reads linear FP16: a reformat at each float input that a conv wrote, and one at each float output
   that the network returns.
8. An INT8 conv other than a stem with its pooling does not read what a Reshape leaves linear: a reformat to CHW4.
9. A Reshape, Flatten, Squeeze or Unsqueeze without a Transpose is a view: a NoOp, no kernel.

    Q(a), Q(Resize(b)) -> Concat -> conv      Q writes into the conv's input; Resize, then a copy        (rule 2)
"""

from quantbench.graph.ops import AVERAGES, SHUFFLES
from quantbench.predict.layers import dtypes_of
from quantbench.predict.net import Net, Op
from quantbench.predict.versions import Version

SLICE = "Eliminating slice"
CONCAT = "Eliminating concatenation"
REFORMAT = "format reformat"
KIND = "FormatReformat"
RESHAPED = "reshaped"
_NO_STRIDES = frozenset({"Resize", "MaxPool", "Concat", "InPlace", "View"})
_NO_STRIDED_READS = frozenset({"Softmax", "Resize", "TopK"})
_WITH_STEPS = 5  # inputs of an ONNX Slice that states steps: data, starts, ends, axes, steps
_VECTOR = 32
_POOLINGS = AVERAGES | {"MaxPool"}
_STEM_CHANNELS = 4
_FLOATS = ("FP32", "FP16")


def in_place(net: Net) -> None:
    """Rules 1, 2 and 9. In the logs too slice removal stands before concat removal."""
    for op in net.of_kind(*(SHUFFLES - {"Transpose"})):
        op.kind = "View"
        op.traits.append(RESHAPED)
    for op in net.of_kind("Slice"):
        if op.out not in net.outputs and _contiguous(net, op):
            if any(r.kind in _NO_STRIDED_READS for r in net.readers(op.out)):
                net.step(SLICE, "copy", op.name)
                op.traits.append("slice-copy")
                continue
            net.step(SLICE, "remove", op.name)
            op.kind = "View"
    dtypes = dtypes_of(net)
    for op in reversed(net.of_kind("Concat")):
        _concat(net, op, dtypes.get(op.out, "") == "INT8")


def reformats(net: Net, version: Version, fp16: bool) -> None:
    """Rules 3 to 8, not on Blackwell. Call it last."""
    if version.whole_network_in_myelin:
        return
    dtypes = dtypes_of(net)
    if fp16:
        for op in net.ops:
            if op.kind in _POOLINGS and not op.int8_in and dtypes.get(op.out) != "INT8":
                _pooling(net, op)
            elif op.kind == "Conv" and not op.int8_in:
                _float_conv(net, op)
            elif (op.kind in SHUFFLES or RESHAPED in op.traits) and dtypes.get(op.out) in _FLOATS:
                _shuffle(net, op)
            elif op.kind == "BatchNormalization":
                _scale(net, op)
            elif op.kind == "Myelin":
                _myelin(net, op, dtypes)
    for op in net.of_kind("Conv"):
        maker = net.producer(op.inputs[0])
        if op.int8_in and maker is not None and RESHAPED in maker.traits and "stem-pool" not in op.traits:
            _before(net, op, 0, "format-linear-int8")


def _contiguous(net: Net, op: Op) -> bool:
    """Without steps; torch states them always, so a slice of channels counts too (one of rows or columns may skip)."""
    before, after = net.shape(op.inputs[0]), net.shape(op.out)
    if len(op.inputs) < _WITH_STEPS:
        return True
    return before is not None and after is not None and (before[:1], before[2:]) == (after[:1], after[2:])


def _concat(net: Net, concat: Op, int8: bool) -> None:
    net.step(CONCAT, "remove", concat.name)
    end: int | None = 0
    last = len(concat.inputs) - 1
    for index, tensor in enumerate(list(concat.inputs)):
        shape = net.shape(tensor)
        size = shape[1] if shape is not None and len(shape) == 4 else None
        end = end + size if isinstance(size, int) and end is not None else None
        trait = _copy_reason(net, concat, tensor)
        if not trait and int8 and index < last and end is not None and end % _VECTOR:
            trait = "concat-stomps"
        if trait:
            _copy(net, concat, index, tensor, trait)
    concat.kind = "InPlace"


def _copy_reason(net: Net, concat: Op, tensor: str) -> str:
    """The trait of the reason to copy `tensor` into the concat, "" where its writer writes in place."""
    maker = net.producer(tensor)
    if maker is None or maker.kind in _NO_STRIDES:
        return "concat-copy"
    others = [r for r in net.readers(tensor) if r is not concat]
    twice = sum(t == tensor for t in concat.inputs) > 1
    return "concat-shared" if others or twice or tensor in net.outputs else ""


def _copy(net: Net, concat: Op, index: int, tensor: str, trait: str) -> None:
    output = f"{tensor} in {concat.out}" if index == 0 else f"{tensor} in {concat.out} {index}"
    net.like(output, tensor)
    net.step(CONCAT, "copy", concat.name, tensor)
    net.set_input(concat, index, output)
    op = Op("Copy", f"{tensor} copy", [tensor], [output], concat.order - 0.1 + index / 1000, [])
    op.traits.append(trait)
    net.add(op)


def _writes_chw32(net: Net, op: Op | None) -> bool:
    """Whether `op` is an INT8 conv whose float output is CHW32.

    Not where a left-over DQ makes its residual: residual and output have one format, a DQ writes any, and the one case
    at hand went linear (A100 resnet-qat-residual, Conv_284 + Add_292). Depthwise convs and stems have other kernels.
    """
    while op is not None and op.kind == "View":
        op = net.producer(op.inputs[0])
    if op is None or op.kind != "Conv" or not op.int8_in or op.int8_out or int(op.attributes.get("group", 1)) > 1:
        return False
    shape = net.shape(op.inputs[0])
    if shape is not None and len(shape) > 1 and isinstance(shape[1], int) and shape[1] <= _STEM_CHANNELS:
        return False
    residual = net.producer(op.residual) if op.residual else None
    return residual is None or not residual.is_dq


def _pooling(net: Net, pool: Op) -> None:
    """Rule 3. Where a float pooling's output is the residual of a CHW32 conv: one reformat behind the pooling if all
    readers can do with it (a Q reads any format), else one before each such conv."""
    if _writes_chw32(net, net.producer(pool.inputs[0])):
        _before(net, pool, 0, "format-pooling")
    readers = net.readers(pool.out)
    convs = [r for r in readers if r.residual == pool.out and _writes_chw32(net, r)]
    if not convs:
        return
    if pool.out not in net.outputs and all(r in convs or r.is_q for r in readers):
        _behind(net, pool, 0, "format-residual")
        return
    for conv in convs:
        _before(net, conv, conv.inputs.index(pool.out), "format-residual")


def _float_conv(net: Net, op: Op) -> None:
    """Rule 4."""
    source = op.inputs[0]
    if _writes_chw32(net, net.producer(source)) or source in net.inputs:
        _before(net, op, 0, "format-float-conv")
    home = next((r for r in net.readers(op.out) if r.kind == "InPlace"), None)
    if op.out in net.outputs or (home is not None and home.out in net.outputs):
        _behind(net, op, 0, "format-float-conv")


def _shuffle(net: Net, op: Op) -> None:
    """Rule 5."""
    if _writes_chw32(net, net.producer(op.inputs[0])):
        _before(net, op, 0, "format-shuffle")


def _scale(net: Net, op: Op) -> None:
    """Rule 6."""
    maker = net.producer(op.inputs[0])
    if maker is not None and maker.kind == "ConvTranspose" and maker.int8_in:
        _before(net, op, 0, "format-deconv")


def _myelin(net: Net, op: Op, dtypes: dict[str, str]) -> None:
    """Rule 7."""
    for index, tensor in enumerate(list(op.inputs)):
        maker = net.producer(tensor)
        if maker is not None and maker.kind == "Conv" and dtypes.get(tensor) in _FLOATS:
            _before(net, op, index, "format-myelin")
    for index, tensor in enumerate(list(op.outputs)):
        if tensor in net.outputs and dtypes.get(tensor) in _FLOATS and not net.readers(tensor):
            _behind(net, op, index, "format-myelin")


def _before(net: Net, op: Op, index: int, trait: str) -> None:
    source = op.inputs[index]
    shown = 1 if op.residual == source else index
    result = f"Reformatted Input Tensor {shown} to {op.name}"
    net.like(result, source)
    net.set_input(op, index, result)
    if op.residual == source:
        op.residual = result
    name = f"Reformatting CopyNode for Input Tensor {shown} to {op.name}"
    _add(net, name, source, result, op.order - 0.01, trait)


def _behind(net: Net, op: Op, index: int, trait: str) -> None:
    result, inner = op.outputs[index], f"Reformatted Output Tensor {index} to {op.name}"
    net.like(inner, result)
    net.rename_output(op, index, inner)
    _add(net, f"Reformatting CopyNode for Output Tensor {index} to {op.name}", inner, result, op.order + 0.01, trait)


def _add(net: Net, name: str, source: str, result: str, order: float, trait: str) -> None:
    net.step(REFORMAT, "reformat", name, source)
    op = Op(KIND, name, [source], [result], order, [])
    op.traits.append(trait)
    net.add(op)
