"""Networks with Q/DQ as pytorch-quantization exports them, rebuilt from their well-known architectures.

Node numbers follow the exporter's counter (each Q and DQ brings Constants), so that the names come out as in the
engines of the artefacts.
"""

from dataclasses import dataclass, field
from typing import Any

from quantbench.graph.view import GraphView, NodeView, TensorView

Shape = tuple[int, ...]


@dataclass
class Draft:
    """A GraphView in the making. `numbered`: names are `Conv_9`, else the path given by the caller."""

    count: int = 0
    nodes: list[NodeView] = field(default_factory=list)
    tensors: dict[str, TensorView] = field(default_factory=dict)
    scales: dict[str, str] = field(default_factory=dict)
    # Places of Q, DQ, weight Q, weight DQ and conv relative to the first Constant of the input quantizer.
    steps: tuple[int, int, int, int, int] = (2, 5, 7, 8, 9)

    def tensor(self, name: str, shape: Shape, constant: bool = False) -> str:
        self.tensors[name] = TensorView(name, shape, "float32", constant)
        return name

    def shape(self, name: str) -> Shape:
        found = self.tensors[name].shape
        assert found is not None
        return tuple(int(d) for d in found if isinstance(d, int))

    def node(self, op: str, inputs: list[str], shape: Shape, name: str = "", **attributes: Any) -> str:
        if not name:
            name = f"{op}_{self.count}"
            self.count += 1
        output = self.tensor(f"{name}_out", shape)
        self.nodes.append(NodeView(name, op, tuple(inputs), (output,), attributes))
        return output

    def qdq(self, x: str, q: str, dq: str, scale: str) -> str:
        """Q and DQ of an activation; `scale` names the calibrated tensor whose range it has."""
        self.tensor(f"{q}_scale", (), constant=True)
        quantized = self.node("QuantizeLinear", [x, f"{q}_scale"], self.shape(x), q)
        self.scales[q] = self.scales[dq] = scale
        return self.node("DequantizeLinear", [quantized, f"{q}_scale"], self.shape(x), dq)

    def quantized(self, x: str, scale: str = "") -> str:
        """A quantizer of its own, with the exporter's numbers."""
        at = self.count
        self.count += self.steps[1] + 1
        return self.qdq(x, f"QuantizeLinear_{at + self.steps[0]}", f"DequantizeLinear_{at + self.steps[1]}", scale or x)

    def weights(self, name: str, shape: Shape, q: str, dq: str) -> str:
        self.tensor(name, shape, constant=True)
        self.tensor(f"{q}_scale", (shape[0],), constant=True)
        quantized = self.node("QuantizeLinear", [name, f"{q}_scale"], shape, q)
        self.tensor(quantized, shape, constant=True)
        out = self.node("DequantizeLinear", [quantized, f"{q}_scale"], shape, dq)
        return self.tensor(out, shape, constant=True)

    def qconv(self, x: str, weight: str, out: int, kernel: int, stride: int = 1, group: int = 1) -> str:
        """A Conv with quantized input and weights."""
        at = self.count
        x = self.quantized(x)
        n, c, h, w = self.shape(x)
        wq, wdq, conv = (at + s for s in self.steps[2:])
        weights = self.weights(f"{weight}.weight", (out, c // group, kernel, kernel), f"QuantizeLinear_{wq}",
                               f"DequantizeLinear_{wdq}")  # fmt: skip
        self.count = conv + 1
        pads = (kernel // 2,) * 4
        shape = (n, out, (h + stride - 1) // stride, (w + stride - 1) // stride)
        return self.node("Conv", [x, weights], shape, f"Conv_{conv}", kernel_shape=(kernel, kernel),
                         strides=(stride, stride), pads=pads, group=group)  # fmt: skip

    def bn(self, x: str, name: str = "") -> str:
        label = name or f"BatchNormalization_{self.count}"
        parameters = [self.tensor(f"{label}.{p}", (self.shape(x)[1],), constant=True) for p in "wbmv"]
        return self.node("BatchNormalization", [x, *parameters], self.shape(x), name)

    def qgemm(self, x: str, weight: str, out: int) -> str:
        at = self.count
        x = self.quantized(x)
        wq, wdq, gemm = (at + s for s in self.steps[2:])
        weights = self.weights(f"{weight}.weight", (out, self.shape(x)[1]), f"QuantizeLinear_{wq}",
                               f"DequantizeLinear_{wdq}")  # fmt: skip
        self.count = gemm + 1
        self.tensor(f"{weight}.bias", (out,), constant=True)
        return self.node("Gemm", [x, weights, f"{weight}.bias"], (self.shape(x)[0], out), f"Gemm_{gemm}", transB=1)

    def view(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> GraphView:
        return GraphView(tuple(self.nodes), self.tensors, inputs, outputs)


def resnet18(residual: bool, pooling: bool = False) -> tuple[GraphView, dict[str, str]]:
    """torchvision's ResNet-18 with quantized convs and fc; with `residual` also the skip input of each Add, with
    `pooling` also the average pooling (TensorRT Engine Explorer, examples/pytorch/resnet). Returns the view and a
    scale key for each Q and DQ."""
    d = Draft()
    x = d.tensor("input.1", (32, 3, 224, 224))
    x = d.node("Relu", [d.bn(d.qconv(x, "conv1", 64, 7, 2))], (32, 64, 112, 112))
    x = d.node("MaxPool", [x], (32, 64, 56, 56))
    for layer, channels in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            stride = 2 if layer > 1 and block == 0 else 1
            x = _basic_block(d, x, f"layer{layer}.{block}", channels, stride, residual)
    if pooling:
        x = d.quantized(x)
    x = d.node("GlobalAveragePool", [x], (32, 512, 1, 1))
    x = d.node("Flatten", [x], (32, 512))
    x = d.qgemm(x, "fc", 1000)
    return d.view(("input.1",), (x,)), d.scales


def _basic_block(d: Draft, x: str, name: str, channels: int, stride: int, residual: bool) -> str:
    y = d.bn(d.qconv(x, f"{name}.conv1", channels, 3, stride))
    y = d.node("Relu", [y], d.shape(y))
    y = d.bn(d.qconv(y, f"{name}.conv2", channels, 3))
    skip = x
    if stride > 1:
        skip = d.bn(d.qconv(x, f"{name}.downsample.0", channels, 1, stride))
    if residual:
        skip = d.quantized(skip)
    y = d.node("Add", [y, skip], d.shape(y))
    return d.node("Relu", [y], d.shape(y))


def mobilenet_v2(residuals: bool = False) -> tuple[GraphView, dict[str, str]]:
    """torchvision's MobileNetV2 with quantized convs and classifier, as in TREx's mobilenet.qat engine; with
    `residuals` as in its mobilenet_v2_residuals.qat engine, another export with other numbers."""
    d = Draft() if residuals else Draft(steps=(2, 6, 8, 11, 12))
    x = d.tensor("input1", (1, 3, 224, 224))
    x = _conv_relu6(d, x, "features.0.0", 32, 3, 2)
    index, channels = 1, 32
    for expand, out, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            skip = x
            if residuals and step == 1 and channels == out:
                skip = d.quantized(x)
            y = _inverted(d, x, f"features.{index}.conv", channels * expand, out, step, expand)
            x = d.node("Add", [skip, y], d.shape(y)) if step == 1 and channels == out else y
            channels, index = out, index + 1
    x = _conv_relu6(d, x, "features.18.0", 1280, 1, 1)
    x = d.node("GlobalAveragePool", [x], (1, 1280, 1, 1))
    d.count = 755 if residuals else 851
    x = d.node("Flatten", [x], (1, 1280), "Flatten")
    d.count += 0 if residuals else 1
    x = d.qgemm(x, "classifier.1", 1000)
    return d.view(("input1",), (x,)), d.scales


def _conv_relu6(d: Draft, x: str, name: str, out: int, kernel: int, stride: int, group: int = 1) -> str:
    x = d.bn(d.qconv(x, name, out, kernel, stride, group))
    d.count += 2
    return d.node("Clip", [x], d.shape(x))


def _inverted(d: Draft, x: str, name: str, hidden: int, out: int, stride: int, expand: int) -> str:
    y, place = x, 0
    if expand > 1:
        y, place = _conv_relu6(d, y, f"{name}.0.0", hidden, 1, 1), 1
    y = _conv_relu6(d, y, f"{name}.{place}.0", hidden, 3, stride, hidden)
    return d.bn(d.qconv(y, f"{name}.{place + 1}", out, 1))
