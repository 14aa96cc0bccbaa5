"""The FP16 cast pass: same names, same numbers within half precision, legal everywhere."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.compilation.traffic import compile_summary
from quantbench.demo import resnet18
from quantbench.engines.base import BuildOptions
from quantbench.engines.build import build_engine
from quantbench.engines.write_layers import layers_of
from quantbench.errors import QuantbenchError
from quantbench.graph.onnx_view import view_of
from quantbench.graph.to_fp16 import to_bf16, to_fp16
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from tests.engines.models import conv_net, qdq_conv_net


def _run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # onnxruntime 1.31 multiplies FP16 scales in this pass, which underflows on small weights.
    session = ort.InferenceSession(model.SerializeToString(), options, disabled_optimizers=["WeightBiasQuantization"])
    return session.run(None, feed)


def _sqnr(reference: np.ndarray, got: np.ndarray) -> float:
    noise = float(((reference.astype(np.float64) - got) ** 2).sum())
    return 10 * float(np.log10((reference.astype(np.float64) ** 2).sum() / max(noise, 1e-30)))


def _elem_types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}


@pytest.mark.parametrize("opset", [13, 17, 18, 21, 23])
def test_float_model_keeps_io_names_and_numbers(opset: int) -> None:
    model = conv_net(opset=opset)
    half = to_fp16(model)
    onnx.checker.check_model(half, full_check=True)
    assert [v.name for v in half.graph.input] == [v.name for v in model.graph.input]
    assert {v.type.tensor_type.elem_type for v in (*half.graph.input, *half.graph.output)} == {TensorProto.FLOAT}
    assert [n.name for n in half.graph.node if n.op_type != "Cast"] == [n.name for n in model.graph.node]
    assert sum(n.op_type == "Cast" for n in half.graph.node) == 2
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    assert 50 < _sqnr(_run(model, {"x": x})[0], _run(half, {"x": x})[0]) < 100


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_qdq_scales_become_half_and_the_opset_rises(opset: int) -> None:
    model = qdq_conv_net(opset=opset)
    half = to_fp16(model)
    onnx.checker.check_model(half, full_check=True)
    assert half.opset_import[0].version == max(opset, 19)
    types = {t.name: t.data_type for t in half.graph.initializer}
    scales = [n.input[1] for n in half.graph.node if n.op_type.endswith(("QuantizeLinear", "DequantizeLinear"))]
    assert len(scales) >= 4
    assert {types[name] for name in scales} == {TensorProto.FLOAT16}
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    assert _sqnr(_run(model, {"x": x})[0], _run(half, {"x": x})[0]) > 25


def test_the_model_given_is_not_touched() -> None:
    model = qdq_conv_net()
    before = model.SerializeToString()
    to_fp16(model)
    assert model.SerializeToString() == before


def test_dead_weight_channel_keeps_a_scale_above_zero() -> None:
    model = qdq_conv_net(dead_channel=True)
    half = to_fp16(model)
    scales = {t.name: numpy_helper.to_array(t) for t in half.graph.initializer if "scale" in t.name}
    assert all(float(np.min(s)) > 0 for s in scales.values())
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    assert _sqnr(_run(model, {"x": x})[0], _run(half, {"x": x})[0]) > 25


def test_activation_scale_below_half_precision_stays_float() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    scale, zero = np.float32(1e-9), np.int8(0)
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="Q"),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="DQ"),
            ],
            "g", [x], [y],
            [numpy_helper.from_array(np.asarray(scale), "s"), numpy_helper.from_array(np.asarray(zero), "z")],
        ),
        opset_imports=[helper.make_opsetid("", 19)], ir_version=9,
    )  # fmt: skip
    half = to_fp16(model)
    feed = {"x": np.array([[1e-9, 5e-9, 2e-8, -3e-8]], np.float32)}
    assert np.array_equal(_run(model, feed)[0], _run(half, feed)[0])


def test_shape_arithmetic_stays_exact() -> None:
    """An old exporter's Shape → Cast → Mul → Cast: 2500 * 3 is not exact in FP16 (it has 11 bits)."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Cast", ["shape"], ["float_shape"], name="to_float", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float_shape", "factor"], ["bigger"], name="times"),
        helper.make_node("Cast", ["bigger"], ["target"], name="to_int", to=TensorProto.INT64),
        helper.make_node("Expand", ["x", "target"], ["y"], name="expand"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2501])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "columns"])],
            [numpy_helper.from_array(np.array([3, 1], np.float32), "factor")],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    out = _run(to_fp16(model), {"x": np.ones((1, 2501), np.float32)})[0]
    assert out.shape == (3, 2501)


def test_inputs_that_must_be_float_stay_so_and_subgraphs_read_float() -> None:
    """Resize takes float scales only; a branch of If captures a tensor from outside."""

    def branch(name: str, op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        node = helper.make_node(op, ["r"], [f"{name}_out"], name=name)
        return helper.make_graph([node], name, [], [out])

    branches = {"then_branch": branch("t", "Relu"), "else_branch": branch("e", "Neg")}
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["r"], name="resize", mode="nearest"),
        helper.make_node("If", ["cond"], ["i"], name="if", **branches),
        helper.make_node("Add", ["i", "r"], ["y"], name="add"),
    ]  # fmt: skip
    model = helper.make_model(
        helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4]),
             helper.make_tensor_value_info("cond", TensorProto.BOOL, [])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 8, 8])],
            [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    half = to_fp16(model)
    assert {t.name: t.data_type for t in half.graph.initializer} == {"scales": TensorProto.FLOAT}
    feed = {"x": np.random.default_rng(1).standard_normal((1, 1, 4, 4)).astype(np.float32), "cond": np.array(True)}
    assert _sqnr(_run(model, feed)[0], _run(half, feed)[0]) > 50


def test_weights_beyond_half_precision_saturate_and_infinity_stays() -> None:
    values = np.array([1e6, -1e6, np.inf, 1.0], np.float32)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"], name="add")], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
            [numpy_helper.from_array(values, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    weight = numpy_helper.to_array(to_fp16(model).graph.initializer[0])
    assert weight.tolist() == [65504.0, -65504.0, np.inf, 1.0]


def test_bf16_rounds_to_nearest_even() -> None:
    half = to_bf16(conv_net())
    onnx.checker.check_model(half, full_check=True)
    types = _elem_types(half)
    assert TensorProto.BFLOAT16 in types.values()
    weights = {t.name: t for t in conv_net().graph.initializer}
    for tensor in half.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            wide = numpy_helper.to_array(weights[tensor.name])
            got = (np.frombuffer(tensor.raw_data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(wide.shape)
            assert np.all(np.abs(got - wide) <= np.abs(wide) * 2.0**-8)


@pytest.mark.parametrize("inputs", [["x"], ["x", "nowhere"]])
def test_an_opset_that_cannot_be_raised_is_one_line(inputs: list[str]) -> None:
    model = qdq_conv_net(opset=13)
    model.graph.node.append(helper.make_node("Upsample", inputs, ["unused"], name="odd"))
    with pytest.raises(QuantbenchError, match="needs opset 19") as caught:
        to_fp16(model)
    assert "\n" not in str(caught.value)


def test_bf16_has_casts_at_the_edges_alone() -> None:
    half = to_bf16(qdq_conv_net(opset=17))
    onnx.checker.check_model(half, full_check=True)
    casts = {name for node in half.graph.node if node.op_type == "Cast" for name in (*node.input, *node.output)}
    edges = {value.name for value in (*half.graph.input, *half.graph.output)}
    assert len([node for node in half.graph.node if node.op_type == "Cast"]) == len(edges)
    assert edges <= casts
    types = _elem_types(half)
    convs = [node for node in half.graph.node if node.op_type == "Conv"]
    assert convs
    assert all(types[name] == TensorProto.BFLOAT16 for node in convs for name in (*node.input[:2], *node.output))


def test_a_matrix_product_with_a_scale_too_small_for_fp16_is_built_in_int8_all_the_same(tmp_path: Path) -> None:
    """TensorRT-RTX wants the scales of both operands in one type."""
    model = resnet18.build(width=8, size=64, classes=10)
    plan = place(view_of(model))
    gemm = next(site for site in plan.activations if site.node.endswith("Gemm"))
    ranges = Ranges({name: TensorRange(1e-5 if name == gemm.tensor else 4.0) for name in plan.tensors})
    onnx.save(insert_qdq(model, plan, ranges), tmp_path / "m.onnx")
    options = BuildOptions(precisions=frozenset({"int8", "fp16"}), default_batch=1)
    built = build_engine(tmp_path / "m.onnx", options, "tensorrt-rtx")
    weighted = [site.node for site in plan.weights]
    assert compile_summary(layers_of(built), (), weighted).weighted_int8 == len(weighted) == 21
