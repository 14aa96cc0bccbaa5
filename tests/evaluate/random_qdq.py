"""Random small Q/DQ models: what vision networks are made of, quantized in each of the ways that tools have."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quantbench.ort import create_session, run

Array = NDArray[np.float32]


@dataclass
class Drawing:
    """A float network that grows layer by layer: names of tensors with their shapes, nodes, constants."""

    rng: np.random.Generator
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    marked: list[str] = field(default_factory=list)  # tensors that get Q/DQ
    weights: dict[str, tuple[str, int]] = field(default_factory=dict)  # weight to (input beside it, output axis)
    biases: dict[str, str] = field(default_factory=dict)  # bias to its weight

    def name(self, stem: str) -> str:
        return f"{stem}{len(self.nodes)}_{len(self.constants)}"

    def constant(self, stem: str, array: NDArray[np.generic]) -> str:
        name = self.name(stem)
        self.constants[name] = array
        return name

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: object) -> str:
        out = self.name("t")
        self.nodes.append(helper.make_node(op, inputs, [out], f"n{len(self.nodes)}", **attributes))
        self.shapes[out] = shape
        return out

    def one_of(self, *values: object) -> object:
        return values[self.rng.integers(len(values))]

    def tensor(self, rank: int) -> str | None:
        """A quantized tensor of so many axes, late ones more often."""
        fit = [name for name in self.marked if len(self.shapes[name]) == rank]
        return fit[-1 - min(int(self.rng.geometric(0.6)) - 1, len(fit) - 1)] if fit else None


def _conv(d: Drawing) -> None:
    x = d.tensor(4)
    if x is None:
        return
    n, c, h, w = d.shapes[x]
    kernel, stride = int(d.rng.integers(1, 4)), int(d.rng.integers(1, 3))
    dilation = 2 if kernel == 2 and d.rng.random() < 0.3 else 1
    reach = (kernel - 1) * dilation + 1
    pad = int(d.rng.integers(0, kernel))
    if min(h, w) + 2 * pad < reach:
        return
    group = int(d.one_of(1, 1, c, 2 if c % 2 == 0 else 1))
    m = group * int(d.rng.integers(1, 5))
    weight = d.constant("w", d.rng.normal(size=(m, c // group, kernel, kernel)).astype(np.float32))
    d.weights[weight] = (x, 0)
    inputs = [x, weight, *_bias(d, weight, m)]
    size = tuple((s + 2 * pad - reach) // stride + 1 for s in (h, w))
    y = d.add(
        "Conv", inputs, (n, m, *size), strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2, group=group
    )
    d.marked.append(_activation(d, y))


def _conv_transpose(d: Drawing) -> None:
    x = d.tensor(4)
    if x is None or d.shapes[x][2] > 10:
        return
    n, c, h, w = d.shapes[x]
    kernel, stride, m = int(d.rng.integers(1, 4)), int(d.rng.integers(1, 3)), int(d.rng.integers(1, 5))
    pad = int(d.rng.integers(0, (kernel + 1) // 2))
    more = int(d.rng.integers(0, stride))
    weight = d.constant("w", d.rng.normal(size=(c, m, kernel, kernel)).astype(np.float32))
    d.weights[weight] = (x, 1)
    size = tuple((s - 1) * stride - 2 * pad + kernel + more for s in (h, w))
    if min(size) < 1:
        return
    inputs = [x, weight, *_bias(d, weight, m)]
    y = d.add("ConvTranspose", inputs, (n, m, *size), strides=[stride] * 2, pads=[pad] * 4, output_padding=[more] * 2)
    d.marked.append(_activation(d, y))


def _gemm(d: Drawing) -> None:
    x = d.tensor(2)
    if x is None:
        wide = d.tensor(4)
        if wide is None:
            return
        n, c, h, w = d.shapes[wide]
        pooled = d.add("GlobalAveragePool", [wide], (n, c, 1, 1)) if d.rng.random() < 0.5 else wide
        d.marked.append(d.add("Flatten", [pooled], (n, c if pooled != wide else c * h * w)))
        return
    n, k = d.shapes[x]
    m, turned = int(d.rng.integers(1, 9)), bool(d.rng.random() < 0.5)
    weight = d.constant("w", d.rng.normal(size=(m, k) if turned else (k, m)).astype(np.float32))
    if d.rng.random() < 0.5:
        d.weights[weight] = (x, 0 if turned else 1)
        y = d.add("Gemm", [x, weight, *_bias(d, weight, m)], (n, m), transB=int(turned))
    elif not turned:
        d.weights[weight] = (x, 1)
        y = d.add("MatMul", [x, weight], (n, m))
    else:
        return
    d.marked.append(_activation(d, y))


def _pair(d: Drawing) -> None:
    x = d.tensor(4) or d.tensor(2)
    same = [name for name in d.marked if d.shapes[name] == d.shapes[x]]
    other = same[int(d.rng.integers(len(same)))]
    d.marked.append(_activation(d, d.add(str(d.one_of("Add", "Mul", "Sub")), [x, other], d.shapes[x])))


def _concat(d: Drawing) -> None:
    x = d.tensor(4)
    if x is None:
        return
    n, _, h, w = d.shapes[x]
    same = [name for name in d.marked if len(d.shapes[name]) == 4 and d.shapes[name][2:] == (h, w)]
    parts = [x, same[int(d.rng.integers(len(same)))]]
    d.marked.append(d.add("Concat", parts, (n, sum(d.shapes[part][1] for part in parts), h, w), axis=1))


def _pool(d: Drawing) -> None:
    x = d.tensor(4)
    if x is None or min(d.shapes[x][2:]) < 3:
        return
    n, c, h, w = d.shapes[x]
    kernel, stride = int(d.rng.integers(2, 4)), int(d.rng.integers(1, 3))
    size = tuple((s - kernel) // stride + 1 for s in (h, w))
    op = str(d.one_of("MaxPool", "AveragePool"))
    d.marked.append(d.add(op, [x], (n, c, *size), kernel_shape=[kernel] * 2, strides=[stride] * 2))


def _moved(d: Drawing) -> None:
    x = d.tensor(4)
    if x is None or d.shapes[x][2] > 10:
        return
    n, c, h, w = d.shapes[x]
    kind = int(d.rng.integers(4))
    if kind == 0:
        scales = d.constant("s", np.array([1, 1, 2, 2], np.float32))
        y = d.add("Resize", [x, "", scales], (n, c, 2 * h, 2 * w), mode="nearest", nearest_mode="floor",
                  coordinate_transformation_mode="asymmetric")  # fmt: skip
    elif kind == 1:
        y = d.add("Transpose", [x], (n, c, w, h), perm=[0, 1, 3, 2])
    elif kind == 2:
        y = d.add("Reshape", [x, d.constant("s", np.array([n, c, w, h], np.int64))], (n, c, w, h))
    else:
        y = d.add("Softmax", [x], (n, c, h, w), axis=1)
    d.marked.append(y)


def _bias(d: Drawing, weight: str, count: int) -> list[str]:
    if d.rng.random() < 0.3:
        return []
    name = d.constant("b", d.rng.normal(size=count).astype(np.float32))
    d.biases[name] = weight
    return [name]


def _activation(d: Drawing, tensor: str) -> str:
    shape = d.shapes[tensor]
    kind = int(d.rng.integers(9))
    if kind == 0:
        low, high = (d.constant("c", np.array(value, np.float32)) for value in (0, 3))
        return d.add("Clip", [tensor, low, high], shape)
    if kind == 1:
        return d.add("LeakyRelu", [tensor], shape, alpha=0.1)
    if kind == 2:
        return d.add("Mul", [tensor, d.add("Sigmoid", [tensor], shape)], shape)
    if kind == 3:
        return d.add(str(d.one_of("Sigmoid", "Tanh", "HardSigmoid", "HardSwish")), [tensor], shape)
    return d.add("Relu", [tensor], shape) if kind < 7 else tensor


_STEPS: tuple[Callable[[Drawing], None], ...] = (
    _conv, _conv, _conv, _conv_transpose, _gemm, _gemm, _pair, _concat, _pool, _moved,
)  # fmt: skip


def random_model(seed: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A Q/DQ model of 2 to 7 layers and an input for it."""
    rng = np.random.default_rng(seed)
    d = Drawing(rng)
    size = int(rng.integers(3, 9))
    d.shapes["x"] = (int(rng.integers(1, 3)), int(rng.integers(1, 7)), size, size)
    d.marked.append("x")
    for _ in range(int(rng.integers(2, 8))):
        _STEPS[int(rng.integers(len(_STEPS)))](d)
    feed = {"x": rng.normal(size=d.shapes["x"]).astype(np.float32)}
    if not d.nodes:
        return random_model(seed + (1 << 20))
    return _with_qdq(d, _values(d, feed)), feed


def _values(d: Drawing, feed: dict[str, Array]) -> dict[str, NDArray[np.generic]]:
    names = [name for name in d.marked if name != "x"]
    if not names:
        return dict(feed)
    session = create_session(_model(d, d.nodes, d.constants, names), threads=1)
    return {**feed, **dict(zip(names, run(session, names, feed), strict=True))}


def _with_qdq(d: Drawing, values: dict[str, NDArray[np.generic]]) -> onnx.ModelProto:
    """Q/DQ behind each marked tensor and before each weight; scales from a third to all of what is reached."""
    constants, before, behind, reads = dict(d.constants), [], {}, {}
    scales: dict[str, NDArray[np.float32]] = {}
    unsigned = d.rng.random() < 0.3
    for name in dict.fromkeys(d.marked):
        reached = values[name]
        if unsigned:
            low, high = min(float(reached.min()), 0.0), max(float(reached.max()), 0.0)
            scale = np.float32(max(high - low, 1e-3) / 255)
            zero = np.array(np.clip(np.rint(-low / scale), 0, 255), np.uint8)
        else:
            share = d.rng.uniform(0.3, 1.1)
            scale, zero = np.float32(max(float(np.abs(reached).max()) * share, 1e-3) / 127), np.array(0, np.int8)
        scales[name] = np.array(scale)
        pair, reads[name] = _pair_of(name, constants, scales[name], zero)
        behind[name] = pair
    for name, (beside, axis) in d.weights.items():
        weight = constants.pop(name)
        per_channel = d.rng.random() < 0.7
        most = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis) if per_channel else None)
        scale = np.maximum(most, 1e-6).astype(np.float32) / np.float32(127)
        wide = scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)]) if per_channel else scale
        zero = np.zeros(scale.shape, np.int8)
        pair, reads[name] = _pair_of(name, constants, scale, zero, axis if per_channel else None)
        if d.rng.random() < 0.5:
            constants[f"{name}_q"] = np.clip(np.rint(weight / wide), -128, 127).astype(np.int8)
            pair = pair[1:]
        else:
            constants[name] = weight
        before += pair
        for bias in [bias for bias, of in d.biases.items() if of == name and d.rng.random() < 0.5]:
            grid = (scales[beside] * scale).astype(np.float32)
            values_of = np.broadcast_to(grid, constants[bias].shape).astype(np.float64)
            stored = np.rint(constants.pop(bias) / values_of)
            constants[f"{bias}_q"] = np.clip(stored, -(1 << 31), (1 << 31) - 1).astype(np.int32)
            constants[f"{bias}_s"], constants[f"{bias}_z"] = grid, np.zeros(grid.shape, np.int32)
            more = {"axis": 0} if grid.ndim else {}
            before.append(helper.make_node("DequantizeLinear", [f"{bias}_q", f"{bias}_s", f"{bias}_z"], [f"{bias}_d"],
                                           f"{bias}_dq", **more))  # fmt: skip
            reads[bias] = f"{bias}_d"
    nodes = [*before, *behind.get("x", [])]
    for node in d.nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [reads.get(name, name) for name in node.input]
        nodes.append(copy)
        nodes += behind.get(node.output[0], [])
    ends = [reads[name] for name in dict.fromkeys(d.marked) if not any(name in node.input for node in d.nodes)]
    return _model(d, nodes, constants, ends or [reads[d.marked[-1]]])


def _pair_of(
    name: str, constants: dict[str, NDArray[np.generic]], scale: NDArray[np.float32], zero: NDArray[np.generic],
    axis: int | None = None,
) -> tuple[list[NodeProto], str]:  # fmt: skip
    constants[f"{name}_s"], constants[f"{name}_z"] = scale, zero
    more = {} if axis is None else {"axis": axis}
    return [
        helper.make_node("QuantizeLinear", [name, f"{name}_s", f"{name}_z"], [f"{name}_q"], f"{name}_quantize", **more),
        helper.make_node(
            "DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_d"], f"{name}_dq", **more
        ),
    ], f"{name}_d"


def _model(
    d: Drawing, nodes: list[NodeProto], constants: dict[str, NDArray[np.generic]], outputs: list[str]
) -> onnx.ModelProto:
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes, "random", [helper.make_tensor_value_info("x", TensorProto.FLOAT, d.shapes["x"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items() if name in read],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
