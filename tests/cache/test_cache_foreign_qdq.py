"""Q/DQ models that onnxruntime's quantizer made, back to cache and float."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from quantbench.cache.from_qdq import from_qdq
from quantbench.cache.strip import strip_qdq
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model
from quantbench.ort import create_session

TINY = Path(__file__).parents[1] / "data" / "cache" / "tiny.onnx"
IMAGES = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)


class Reader(CalibrationDataReader):
    """One batch."""

    def __init__(self) -> None:
        self.left = [{"input": IMAGES}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def run(model: onnx.ModelProto) -> np.ndarray:
    return create_session(model, threads=1).run(None, {"input": IMAGES})[0]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_onnxruntimes_models_become_float_again(per_channel: bool, symmetric: bool, tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    quantize_static(
        TINY, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel, weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        extra_options={"ActivationSymmetric": symmetric},
    )  # fmt: skip
    back = from_qdq(load_model(path))
    expected = run(load_model(TINY))
    # What remains are the rounded weights. Without its Relus, which onnxruntime leaves to Q, it would be 0.3.
    assert np.abs(run(back.model) - expected).max() < 0.005
    assert any("Relus put back" in note for note in back.notes) == (not symmetric)
    assert [value.name for value in back.model.graph.output] == ["logits"]
    relu = run_to("/relu/Relu_output_0")
    assert back.ranges["/relu/Relu_output_0"].amax == pytest.approx(relu.max(), rel=0.01)
    # An asymmetric grid gets its farther bound.
    assert back.ranges["input"].amax == pytest.approx(np.abs(IMAGES).max(), rel=0.01)


def run_to(tensor: str) -> np.ndarray:
    model = load_model(TINY)
    model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    return create_session(model, threads=1).run([tensor], {"input": IMAGES})[0]


def qdq_graph(nodes: list[onnx.NodeProto], output: str = "y", **constants: np.ndarray) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 4, 4])
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["a", "b", "c", "d"])
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pair(tensor: str, scale: str = "s", zero: str = "z") -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [tensor, scale, zero], [f"{tensor}_q"], name=f"{tensor}_Q"),
        helper.make_node("DequantizeLinear", [f"{tensor}_q", scale, zero], [f"{tensor}_dq"], name=f"{tensor}_DQ"),
    ]


def test_pooling_between_q_and_dq_gives_both_sides_a_range() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="Q"),
        helper.make_node("MaxPool", ["q"], ["p"], name="pool", kernel_shape=[2, 2]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"], name="DQ"),
    ]
    stripped = strip_qdq(qdq_graph(nodes, s=np.float32(0.5), z=np.int8(0)))
    assert stripped.scales == {"x": 0.5, "y": 0.5}
    assert [(n.op_type, *n.input, *n.output) for n in stripped.model.graph.node] == [("MaxPool", "x", "y")]


def test_two_scales_on_one_tensor_give_the_wider() -> None:
    nodes = [*pair("x"), helper.make_node("QuantizeLinear", ["x", "t", "z"], ["q2"], name="Q2"),
             helper.make_node("DequantizeLinear", ["q2", "t", "z"], ["dq2"], name="DQ2"),
             helper.make_node("Add", ["x_dq", "dq2"], ["y"], name="add")]  # fmt: skip
    stripped = strip_qdq(qdq_graph(nodes, s=np.float32(0.5), t=np.float32(0.25), z=np.int8(0)))
    assert stripped.scales == {"x": 0.5}
    assert "different scales" in stripped.notes[0]


@pytest.mark.parametrize(
    ("zero", "amax"),
    [(np.int8(0), 127), (np.uint8(128), 127), (np.uint8(0), 255), (np.uint8(200), 200), (np.int8(-128), 255)],
)
def test_zero_points(zero: np.generic, amax: float) -> None:
    nodes = [*pair("x"), helper.make_node("Relu", ["x_dq"], ["y"], name="relu")]
    stripped = strip_qdq(qdq_graph(nodes, s=np.float32(1.0), z=zero))
    assert stripped.scales["x"] * 127 == pytest.approx(amax)


def test_sixteen_bits_are_no_range() -> None:
    nodes = [*pair("x"), helper.make_node("Relu", ["x_dq"], ["y"], name="relu")]
    model = qdq_graph(nodes, s=np.float32(1.0), z=np.int16(0))
    model.opset_import[0].version = 21
    stripped = strip_qdq(model)
    assert stripped.scales == {}
    assert "not to 8 bits" in stripped.notes[0]


def test_computed_scales_are_refused_by_name() -> None:
    nodes = [helper.make_node("ReduceMax", ["x"], ["s"], name="max", keepdims=0), *pair("x"),
             helper.make_node("Relu", ["x_dq"], ["y"], name="relu")]  # fmt: skip
    with pytest.raises(QuantbenchError, match="x_Q: s is computed"):
        strip_qdq(qdq_graph(nodes, z=np.int8(0)))


def test_q_of_a_constant_of_integers_is_refused_by_name() -> None:
    nodes = [*pair("k"), helper.make_node("Add", ["x", "k_dq"], ["y"], name="add")]
    with pytest.raises(QuantbenchError, match="k_Q quantizes k, which holds integers already"):
        strip_qdq(qdq_graph(nodes, k=np.int32(3), s=np.float32(1.0), z=np.int8(0)))


def test_q_at_an_input_that_is_an_output_too_keeps_the_names() -> None:
    nodes = [*pair("x"), helper.make_node("Identity", ["x_dq"], ["y"], name="id")]
    del nodes[2]
    nodes[1].output[0] = "y"
    stripped = strip_qdq(qdq_graph(nodes, s=np.float32(1.0), z=np.int8(0)))
    assert [(n.op_type, *n.input, *n.output) for n in stripped.model.graph.node] == [("Identity", "x", "y")]
