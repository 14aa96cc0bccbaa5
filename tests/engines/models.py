"""Small ONNX models for the engine tests, built node by node."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.graph.onnx_view import view_of
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place


def conv_net(*, opset: int = 18, batch: int | str = 2, dead_channel: bool = False) -> onnx.ModelProto:
    """Three convs, a ReLU each, a residual Add, mean, Gemm: (batch, 3, 16, 16) to (batch, 10), seeded weights."""
    rng = np.random.default_rng(7)
    weights = {
        "w0": rng.standard_normal((32, 3, 3, 3)) * 0.3,
        "w1": rng.standard_normal((32, 32, 3, 3)) * 0.08,
        "w2": rng.standard_normal((32, 32, 3, 3)) * 0.08,
        "b0": rng.standard_normal(32) * 0.1,
        "b1": rng.standard_normal(32) * 0.1,
        "b2": rng.standard_normal(32) * 0.1,
        "fc": rng.standard_normal((10, 32)) * 0.2,
        "fb": rng.standard_normal(10) * 0.1,
    }
    if dead_channel:
        weights["w1"][5] = 1e-12 * rng.standard_normal((32, 3, 3))
    conv = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="conv0", **conv),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="conv1", **conv),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", **conv),
        helper.make_node("Add", ["c2", "r0"], ["a2"], name="add2"),
        helper.make_node("Relu", ["a2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fc", "fb"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "conv_net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def qdq_conv_net(*, opset: int = 18, batch: int | str = 2, dead_channel: bool = False) -> onnx.ModelProto:
    """`conv_net` with Q/DQ where quantbench's rules place them, every range being 4."""
    model = conv_net(opset=opset, batch=batch, dead_channel=dead_channel)
    plan = place(view_of(model))
    return insert_qdq(model, plan, Ranges({name: TensorRange(4.0) for name in plan.tensors}))
