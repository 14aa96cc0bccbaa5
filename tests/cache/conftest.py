"""Small networks of the three shapes that matter, and ranges measured on them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.demo import resnet18
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import view_of
from quantbench.graph.view import GraphView

SIZE = 32

# A loaded machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


class Net:
    """Builds an ONNX graph op by op; weights are random with a fixed seed."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def op(self, op: str, *inputs: str, name: str, output: str = "", outputs: int = 1, **attributes: object) -> str:
        outs = [output] if output else [f"{name}_output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), outs, name=name, **attributes))
        return outs[0]

    def conv(self, x: str, into: int, out: int, name: str, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        shape = (out, into // group, kernel, kernel)
        weight = self.rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        inputs = [x, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", np.zeros(out, np.float32))]
        pads = [kernel // 2] * 4
        return self.op("Conv", *inputs, name=f"{name}/Conv", strides=[stride] * 2, pads=pads, group=group)

    def silu(self, x: str, name: str) -> str:
        gate = self.op("Sigmoid", x, name=f"{name}/Sigmoid")
        return self.op("Mul", x, gate, name=f"{name}/Mul")

    def model(self, output: str, shape: list[int]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [2, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return normalise(model)


def resnet() -> onnx.ModelProto:
    """ResNet-18, narrow: residual Adds, MaxPool, global average."""
    return normalise(resnet18.build(batch=2, size=SIZE, width=8, classes=10))


def lite() -> onnx.ModelProto:
    """EfficientNet-Lite's block: expansion, depthwise and projection convs with ReLU6 as Clip, a skip connection."""
    net = Net()
    low, high = net.constant("low", np.float32(0)), net.constant("high", np.float32(6))
    x = net.op("Clip", net.conv("images", 3, 16, "stem", stride=2), low, high, name="stem/Clip")
    for i in range(2):
        y = net.op("Clip", net.conv(x, 16, 48, f"b{i}/expand", kernel=1), low, high, name=f"b{i}/clip1")
        y = net.op("Clip", net.conv(y, 48, 48, f"b{i}/depthwise", group=48), low, high, name=f"b{i}/clip2")
        y = net.conv(y, 48, 16, f"b{i}/project", kernel=1)
        x = net.op("Add", y, x, name=f"b{i}/Add")
    x = net.op("GlobalAveragePool", x, name="pool/GlobalAveragePool")
    x = net.op("Flatten", x, name="flatten/Flatten", axis=1)
    weight = net.constant("fc.weight", net.rng.normal(0, 0.2, (10, 16)).astype(np.float32))
    bias = net.constant("fc.bias", np.zeros(10, np.float32))
    net.op("Gemm", x, weight, bias, name="fc/Gemm", output="logits", transB=1)
    return net.model("logits", [2, 10])


def yolo() -> onnx.ModelProto:
    """YOLOv8's blocks: SiLU, C2f with Split, Add and Concat, SPPF's MaxPools, Resize and a Concat of two scales."""
    net = Net()
    x = net.silu(net.conv("images", 3, 16, "m0", stride=2), "m0/act")
    p = net.silu(net.conv(x, 16, 32, "m1", stride=2), "m1/act")
    y = net.silu(net.conv(p, 32, 32, "m2/cv1", kernel=1), "m2/cv1/act")
    sizes = net.constant("sizes", np.array([16, 16], np.int64))
    net.op("Split", y, sizes, name="m2/Split", outputs=2, axis=1)
    b = net.silu(net.conv("m2/Split_output_1", 16, 16, "m2/m/cv1"), "m2/m/cv1/act")
    b = net.silu(net.conv(b, 16, 16, "m2/m/cv2"), "m2/m/cv2/act")
    b = net.op("Add", "m2/Split_output_1", b, name="m2/m/Add")
    y = net.op("Concat", "m2/Split_output_0", "m2/Split_output_1", b, name="m2/Concat", axis=1)
    fine = net.silu(net.conv(y, 48, 32, "m2/cv2", kernel=1), "m2/cv2/act")
    z = net.silu(net.conv(fine, 32, 32, "m3", stride=2), "m3/act")
    pools = [z]
    for i in range(3):
        pools.append(net.op("MaxPool", pools[-1], name=f"sppf/MaxPool_{i}", kernel_shape=[5, 5], pads=[2] * 4))
    z = net.op("Concat", *pools, name="sppf/Concat", axis=1)
    z = net.silu(net.conv(z, 128, 32, "sppf/cv2", kernel=1), "sppf/cv2/act")
    scales = net.constant("scales", np.array([1, 1, 2, 2], np.float32))
    up = net.op("Resize", z, "", scales, name="up/Resize", mode="nearest")
    z = net.op("Concat", up, fine, name="neck/Concat", axis=1)
    z = net.silu(net.conv(z, 64, 32, "neck/cv", kernel=1), "neck/cv/act")
    z = net.conv(z, 32, 20, "head", kernel=1)
    net.op("Sigmoid", z, name="head/Sigmoid", output="scores")
    return net.model("scores", [2, 20, SIZE // 4, SIZE // 4])


@dataclass(frozen=True)
class Case:
    """A network, a batch for it, and the observed maximum of every float activation."""

    model: onnx.ModelProto
    view: GraphView
    feed: dict[str, np.ndarray]
    ranges: Ranges


BUILDERS: dict[str, Callable[[], onnx.ModelProto]] = {"resnet": resnet, "lite": lite, "yolo": yolo}
_CASES: dict[str, Case] = {}


def make_case(kind: str) -> Case:
    """The case of that name, built once."""
    from quantbench.cache.activations import activations

    if kind not in _CASES:
        model = BUILDERS[kind]()
        view = view_of(model)
        images = np.random.default_rng(3).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
        feed = {view.inputs[0]: images}
        maxima = maxima_of(collect(model, [feed], activations(view)))
        _CASES[kind] = Case(model, view, feed, Ranges({name: TensorRange(m) for name, m in maxima.items()}))
    return _CASES[kind]


@pytest.fixture(params=list(BUILDERS))
def case(request: pytest.FixtureRequest) -> Case:
    """Each of the three networks in turn."""
    return make_case(request.param)


@pytest.fixture
def resnet_case() -> Case:
    """The narrow ResNet-18."""
    return make_case("resnet")


@pytest.fixture
def yolo_case() -> Case:
    """The YOLO-like network."""
    return make_case("yolo")
