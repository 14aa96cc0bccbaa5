"""Small models for lint and its fixes, and onnxruntime to run them."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

IMAGES = np.random.default_rng(7).normal(size=(4, 3, 64, 64)).astype(np.float32)
X = np.random.default_rng(3).normal(size=(1, 8, 16, 16)).astype(np.float32)


def run(model: onnx.ModelProto, image: NDArray[np.float32] = IMAGES) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Optimized, onnxruntime would fuse Q/DQ and round otherwise.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: image})[0]
    return result


def sqnr(reference: NDArray[np.float32], result: NDArray[np.float32]) -> float:
    noise = float(np.square(reference - result).mean())
    return 99.0 if noise == 0 else float(10 * np.log10(np.square(reference).mean() / noise))


def small(nodes: list[onnx.NodeProto], weights: dict[str, NDArray[Any]], out: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 16, 16])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [1, 8, 16, 16])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def conv(x: str, name: str, out: str, channels: int, weights: dict[str, NDArray[Any]]) -> onnx.NodeProto:
    rng = np.random.default_rng(len(name) + ord(name[-1]))
    weights[f"{name}.w"] = rng.normal(0, 0.15, (8, channels, 3, 3)).astype(np.float32)
    return helper.make_node("Conv", [x, f"{name}.w"], [out], name=name, pads=[1, 1, 1, 1], kernel_shape=[3, 3])


def pair(x: str, name: str, scale: float, weights: dict[str, NDArray[Any]]) -> tuple[list[onnx.NodeProto], str]:
    weights[f"{name}_s"], weights[f"{name}_z"] = np.float32(scale), np.int8(0)
    weights = {k: np.asarray(v) for k, v in weights.items()}
    q = helper.make_node("QuantizeLinear", [x, f"{name}_s", f"{name}_z"], [f"{name}_q"], name=f"{name}_Q")
    dq = helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_d"], name=f"{name}_DQ")
    return [q, dq], f"{name}_d"
