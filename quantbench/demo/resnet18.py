"""A ResNet-18-shaped ONNX model with random weights, built without torch: for tests, benchmarks and compiler checks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INPUT = "image"
OUTPUT = "logits"


@dataclass
class _Draft:
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: NDArray[np.float32]) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, inputs: list[str], module: str, output: str = "", **attributes: Any) -> str:
        path = f"{module}/{op}"
        output = output or f"{path}_output_0"
        self.nodes.append(helper.make_node(op, inputs, [output], name=path, **attributes))
        return output

    def conv(self, x: str, module: str, shape: tuple[int, int, int], stride: int, gain: float) -> str:
        """Conv with folded batch norm: He initialisation, a scale and a bias that vary from channel to channel."""
        out, into, kernel = shape
        weight = self.rng.normal(0.0, gain * np.sqrt(2.0 / (into * kernel * kernel)), (out, into, kernel, kernel))
        weight *= self.rng.lognormal(0.0, 0.3, (out, 1, 1, 1))
        name = module.lstrip("/").replace("/", ".")
        inputs = [
            x,
            self.constant(f"{name}.weight", weight.astype(np.float32)),
            self.constant(f"{name}.bias", self.rng.normal(0.0, 0.1, out).astype(np.float32)),
        ]
        pad = kernel // 2
        return self.node(
            "Conv", inputs, module, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, dilations=[1, 1],
            group=1,
        )  # fmt: skip

    def block(self, x: str, module: str, into: int, out: int, stride: int) -> str:
        """torchvision's BasicBlock: two 3x3 convs and a skip connection, with a 1x1 conv where the shape changes."""
        main = self.conv(x, f"{module}/conv1", (out, into, 3), stride, 1.0)
        main = self.node("Relu", [main], f"{module}/relu")
        # A small gain on the branch keeps activations from growing from block to block.
        main = self.conv(main, f"{module}/conv2", (out, out, 3), 1, 0.4)
        skip = x
        if stride != 1 or into != out:
            skip = self.conv(x, f"{module}/downsample", (out, into, 1), stride, 0.7)
        return self.node("Relu", [self.node("Add", [main, skip], module)], f"{module}/relu_1")


def build(
    *, batch: int | None = None, size: int = 224, width: int = 64, classes: int = 1000, opset: int = 17, seed: int = 0
) -> onnx.ModelProto:
    """ResNet-18 (He et al., arXiv:1512.03385, table 1) with its batch norms folded and seeded random weights.

    Input `image` float32 [batch, 3, size, size], output `logits` float32 [batch, classes]; `batch` None makes the
    batch dynamic. `width` is the number of channels of the first stage (64 in ResNet-18: 11.7 M parameters).
    """
    draft = _Draft(np.random.default_rng(seed))
    x = draft.conv(INPUT, "/conv1", (width, 3, 7), 2, 1.0)
    x = draft.node("Relu", [x], "/relu")
    x = draft.node("MaxPool", [x], "/maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=0)
    into = width
    for stage in range(4):
        out = width << stage
        for number in range(2):
            stride = 2 if stage and number == 0 else 1
            x = draft.block(x, f"/layer{stage + 1}/{number}", into, out, stride)
            into = out
    x = draft.node("GlobalAveragePool", [x], "/avgpool")
    x = draft.node("Flatten", [x], "", axis=1)
    weight = draft.rng.normal(0.0, 1.0 / np.sqrt(into), (classes, into)).astype(np.float32)
    bias = draft.rng.normal(0.0, 0.1, classes).astype(np.float32)
    inputs = [x, draft.constant("fc.weight", weight), draft.constant("fc.bias", bias)]
    draft.node("Gemm", inputs, "/fc", OUTPUT, alpha=1.0, beta=1.0, transB=1)
    rows = "batch" if batch is None else batch
    graph = helper.make_graph(
        draft.nodes,
        "resnet18",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [rows, 3, size, size])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [rows, classes])],
        draft.weights,
    )
    # IR 8 is the newest that opset 17 tools of its day read; TensorRT 8.5 is one of them.
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="quantbench"
    )
    onnx.checker.check_model(model, full_check=True)
    return model
