"""Bad files out of good ones: bytes changed blindly, and ONNX models changed where they still parse."""

import random
from collections.abc import Callable
from typing import Any

Mutate = Callable[[bytes, list[bytes], random.Random], bytes]

_INTERESTING = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"-1", b"0", b"1e999", b"nan", b"inf", b"null", b"{", b"}", b"[", b"]", b'"',
    b"\\ud800", b":", b",", b"\n", b"\r\n", b"\x1b[2J", b"../", b"%s", b"9" * 40, b"1" * 5000,
)  # fmt: skip
_OPERATORS = (
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "DequantizeLinear", "Einsum", "Expand", "Flatten", "Gather", "Gemm", "GlobalAveragePool",
    "Identity", "If", "InstanceNormalization", "LayerNormalization", "Loop", "LSTM", "MatMul", "MaxPool", "Mul",
    "NonMaxSuppression", "NonZero", "Pad", "QuantizeLinear", "Reciprocal", "ReduceMean", "Relu", "Reshape",
    "Resize", "Scan", "ScatterND", "SequenceConstruct", "Shape", "Slice", "Softmax", "Split", "Squeeze", "Sub",
    "Sum", "TopK", "Transpose", "Unsqueeze", "Where", "Xor", "Nonsense", "",
)  # fmt: skip
_WHOLE = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 4, 7, 255, 1 << 16, 1 << 31, (1 << 63) - 1)
_REAL = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e-45, 1e38)
_NAMES = ("", "x", "y", "nowhere", "a/b", "a\nb", "\x1b[2J", "é" * 40, "n" * 300, "x_QuantizeLinear_Output")


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """`data` with one to eight changes: bits, bytes, pieces cut, doubled, moved or taken from other files."""
    found = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        at = rng.randrange(len(found) + 1)
        length = min(1 << rng.randrange(8), len(found) - at)
        kind = rng.randrange(8)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(found):
            found[at] = rng.randrange(256)
        elif kind == 2:
            del found[at : at + length]
        elif kind == 3:
            found[at:at] = found[at : at + length] * rng.choice((1, 1, 2, 50))
        elif kind == 4:
            found[at:at] = rng.choice(_INTERESTING)
        elif kind == 5:
            found[at : at + length] = rng.choice(_INTERESTING)
        elif kind == 6:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            found[at : at + length] = other[start : start + (1 << rng.randrange(8))]
        else:
            del found[at:]
            found += rng.choice(others)[at:] if rng.random() < 0.5 else b""
    return bytes(found[: 1 << 18])


def mutated_model(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The ONNX model `data` with one to four fields changed: a file that parses and is wrong further in.

    Changing bytes blindly ends at the parser nearly always; this reaches shapes, types, attributes and edges.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        rng.choice(_CHANGES)(model, rng)
    return bytes(model.SerializeToString())


def _operator(model: Any, rng: random.Random) -> None:
    node = _one(model.graph.node, rng)
    if node is not None:
        node.op_type = rng.choice(_OPERATORS)


def _domain(model: Any, rng: random.Random) -> None:
    node = _one(model.graph.node, rng)
    if node is not None:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "trt.plugins", "x"))


def _edges(model: Any, rng: random.Random) -> None:
    node = _one(model.graph.node, rng)
    if node is None:
        return
    ends = rng.choice((node.input, node.input, node.output))
    kind = rng.randrange(4)
    if kind == 0 or not ends:
        ends.append(_tensor(model, rng))
    elif kind == 1:
        del ends[rng.randrange(len(ends))]
    else:
        ends[rng.randrange(len(ends))] = _tensor(model, rng)


def _nodes(model: Any, rng: random.Random) -> None:
    nodes = model.graph.node
    node = _one(nodes, rng)
    if node is None:
        return
    kind = rng.randrange(4)
    if kind == 0:
        nodes.remove(node)
    elif kind == 1:
        nodes.add().CopyFrom(node)
    elif kind == 2:
        node.name = rng.choice((*_NAMES, *(other.name for other in nodes)))
    else:
        first, second = rng.choice(nodes), rng.choice(nodes)
        kept = type(first)()
        kept.CopyFrom(first)
        first.CopyFrom(second)
        second.CopyFrom(kept)


def _attributes(model: Any, rng: random.Random) -> None:
    with_some = [node for node in model.graph.node if node.attribute]
    node = _one(with_some, rng)
    if node is None:
        return
    attribute = rng.choice(node.attribute)
    kind = rng.randrange(6)
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        attribute.type = rng.randrange(15)
    elif kind == 2:
        rng.choice(model.graph.node).attribute.add().CopyFrom(attribute)
    elif kind == 3:
        attribute.name = rng.choice(("axis", "axes", "perm", "pads", "kernel_shape", "strides", "group", "to", "", "x"))
    elif attribute.ints:
        if rng.random() < 0.3:
            attribute.ints.append(rng.choice(_WHOLE))
        else:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(_WHOLE)
    elif attribute.HasField("i"):
        attribute.i = rng.choice(_WHOLE)
    elif attribute.HasField("f"):
        attribute.f = rng.choice(_REAL)
    elif attribute.HasField("s"):
        attribute.s = rng.choice((b"", b"SAME_UPPER", b"\xff", b"linear", b"NOTSET"))
    else:
        attribute.Clear()


def _weights(model: Any, rng: random.Random) -> None:
    from onnx import TensorProto, numpy_helper

    tensor = _one(model.graph.initializer, rng)
    if tensor is None:
        return
    kind = rng.randrange(8)
    if kind == 0:
        tensor.data_type = rng.randrange(24)
    elif kind == 1:
        tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    elif kind == 2 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_WHOLE)
    elif kind == 3:
        tensor.dims.append(1)
    elif kind == 4 and tensor.dims:
        del tensor.dims[rng.randrange(len(tensor.dims))]
    elif kind == 5:
        model.graph.initializer.add().CopyFrom(tensor)
    elif kind == 6:
        tensor.name = _tensor(model, rng)
    elif tensor.data_type == TensorProto.FLOAT:
        try:
            array = numpy_helper.to_array(tensor).copy()
        except ValueError:  # an earlier change broke it
            return
        array.reshape(-1)[: rng.randrange(1 + array.size)] = rng.choice(_REAL)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _values(model: Any, rng: random.Random) -> None:
    graph = model.graph
    values = rng.choice((graph.input, graph.output, graph.value_info))
    value = _one(values, rng)
    kind = rng.randrange(7)
    if value is None:
        known = (*graph.input, *graph.output)
        if known:
            graph.value_info.add().CopyFrom(rng.choice(known))
    elif kind == 0:
        values.remove(value)
    elif kind == 1:
        value.name = _tensor(model, rng)
    elif kind == 2:
        value.ClearField("type")
    elif kind == 3:
        value.type.tensor_type.elem_type = rng.randrange(24)
    elif kind == 4:
        values.add().CopyFrom(value)
    elif value.type.tensor_type.shape.dim and rng.random() < 0.8:
        dim = rng.choice(value.type.tensor_type.shape.dim)
        if rng.random() < 0.3:
            dim.dim_param = rng.choice(("n", "", "a*b", "-1"))
        else:
            dim.dim_value = rng.choice(_WHOLE)
    else:
        value.type.tensor_type.ClearField("shape")


def _versions(model: Any, rng: random.Random) -> None:
    opset = _one(model.opset_import, rng)
    kind = rng.randrange(5)
    if opset is None or kind == 0:
        model.opset_import.add(domain=rng.choice(("", "com.microsoft", "x")), version=rng.randrange(30))
    elif kind == 1:
        opset.version = rng.choice((*range(30), *_WHOLE))
    elif kind == 2:
        opset.domain = rng.choice(("ai.onnx", "x", "com.microsoft"))
    elif kind == 3:
        model.opset_import.remove(opset)
    else:
        model.ir_version = rng.choice((0, 1, 3, 7, 12, 99, -1))


_CHANGES = (
    _operator, _domain, _edges, _edges, _edges, _nodes, _attributes, _attributes, _weights, _weights, _values, _values,
    _versions,
)  # fmt: skip


def _one(items: Any, rng: random.Random) -> Any:
    return rng.choice(items) if len(items) else None


def _tensor(model: Any, rng: random.Random) -> str:
    graph = model.graph
    known = [name for node in graph.node for name in (*node.input, *node.output)]
    known += [tensor.name for tensor in graph.initializer] + [value.name for value in graph.input]
    return str(rng.choice((*known, *known, *_NAMES)))
