"""Public evidence of what TensorRT 8.6 to 11 does with Q/DQ, row by row: the networks rebuilt with weights of ours.

Rows are those of EVIDENCE-TRT10 (sources, versions and GPUs are told there and at each test); a row that a prediction
cannot agree with, because the source leaves its scales or its network open, is held as near as it comes and says so.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantbench.graph.normalise import normalise
from quantbench.lint.run import lint
from quantbench.predict.explain import explain
from quantbench.predict.prediction import Prediction
from quantbench.predict.reports import UNKNOWN, unknown_of
from quantbench.predict.simulate import predict, predict_model
from quantbench.predict.versions import version_of
from tests.predict.qdq_networks import Draft
from tests.predict.yolov8n import yolov8n

FAULTS = Path(__file__).parents[3] / "shared" / "faults" / "predict"


def _model(name: str) -> onnx.ModelProto:
    path = FAULTS / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is not at hand")
    return normalise(onnx.load(path))


def _named(prediction: Prediction) -> list[str]:
    return [layer.name for layer in prediction.layers]


def _predicted(row: int, version: str) -> dict[str, str]:
    """What the table of reports says that is predicted for `row` and differs from what is real."""
    return {item.figure: item.predicted for item in unknown_of(version) if item.row == row}


@pytest.mark.parametrize("version", ["10.14", "8.6.1"])
def test_row_1_yolov8n_is_int8_throughout_and_its_counts_are_marked_unknown(version: str) -> None:
    """64 INT8 convs: 63 here, rebuilt up to its six output maps, without the DFL. How many write INT8 hangs on scales
    that are not public, layers and reformats in all on the decoding: marked so, with what is predicted."""
    view, scales = yolov8n()
    prediction = predict(view, version=version, gpu="sm75", scales=scales)
    convs = [layer for layer in prediction.layers if layer.type == "CaskConvolution"]
    assert all(layer.attributes["int8"] for layer in convs)
    assert len(convs) == 63
    compute = [layer for layer in prediction.layers if layer.type != "Reformat"]
    counted = {
        "convs that write INT8": f"{sum(layer.outputs[0].dtype == 'INT8' for layer in convs)} of 63",
        "layers that compute and write INT8": f"{sum(layer.outputs[0].dtype == 'INT8' for layer in compute)}",
        "copies that are a Q or DQ": f"{sum(layer.origin == 'QDQ' for layer in prediction.layers)}",
        "reformats": f"{len(prediction.reformats)}",
        "layers": f"{len(prediction.layers)}",
    }
    marked = _predicted(1, version)
    assert marked == {figure: counted[figure] for figure in marked}
    assert set(marked) >= {"layers that compute and write INT8", "reformats", "layers"}
    assert len(marked) == (5 if version == "10.14" else 3)
    assert f"no Q/DQ log of TensorRT {version} is at hand" in prediction.headline


def test_figures_that_do_not_agree_are_told_of_their_version_alone() -> None:
    told = "\n".join(explain(version_of("10.14")))
    for figure, real, predicted in (("layers", 196, 142), ("reformats", 90, 59), ("copies that are a Q or DQ", 41, 45)):
        assert f"  {figure}, YOLOv8n by ModelOpt, RTX 2060: {real}, {predicted} predicted (" in told
    assert "Reported of this version" not in "\n".join(explain(version_of("10.9")))
    assert "not rebuilt" in "\n".join(explain(version_of("10.3")))
    assert {item.row for item in unknown_of("10.10")} == {item.row for item in unknown_of("8.5.2")} == {17}


def test_every_row_is_a_test_or_is_marked_unknown() -> None:
    listed = FAULTS.parents[1] / "EVIDENCE-TRT10.md"
    if not listed.is_file():
        pytest.skip(f"{listed} is not at hand")
    rows = {int(n) for n in re.findall(r"^\| (\d+) \|", listed.read_text(encoding="utf-8"), re.MULTILINE)}
    tests = [name for name in globals() if name.startswith(("test_row_", "test_rows_"))]
    heads = [re.findall(r"^test_rows?_(\d+)(?:_and_(\d+))?_", name)[0] for name in tests]
    tested = {int(n) for head in heads for n in head if n}
    assert rows == tested | {item.row for item in UNKNOWN}
    assert rows - tested == {11}


def test_row_2_float_stem_with_qdq_before_its_relu_on_10_10() -> None:
    """Five layers: conv, Q, DQ, PWN(relu), pool; the names are those that the engine prints."""
    prediction = predict_model(_model("stem_qdq_before_relu"), version="10.10", fp16=False)
    assert [layer.type for layer in prediction.layers] == [
        "CaskConvolution", "Reformat", "Reformat", "PointWiseV2", "CaskPooling",
    ]  # fmt: skip
    assert all(name.startswith("node_of_") for name in _named(prediction))


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("stem_int8", ["kgen", "conv_act_pool", "kgen"]),
        ("stem_int8_conv_only", ["kgen", "correlation", "kgen"]),
    ],
)
def test_row_3_stems_on_11_1_and_sm_120(name: str, types: list[str]) -> None:
    """Q kernel, conv (with Relu and MaxPool: one kernel), DQ kernel."""
    prediction = predict_model(_model(name), version="11.1", gpu="sm_120")
    assert [layer.type for layer in prediction.layers] == types


def test_row_3_a_relu_that_is_also_an_output_leaves_no_identity() -> None:
    """INT8 conv, INT8 pool and moves; no layer `Identity`, which no engine has."""
    prediction = predict_model(_model("stem_int8_no_fuse"), version="11.1", gpu="sm120")
    assert not any("Identity" in (layer.type, *layer.nodes) for layer in prediction.layers)
    assert prediction.layers[1].type == "correlation"


@pytest.mark.parametrize("name", ["linear3d_torch_transpose", "linear3d_weight_transposed"])
@pytest.mark.parametrize("version", ["8.6.0", "10.9", "11"])
def test_row_4_linears_as_torch_exports_them_are_int8(name: str, version: str) -> None:
    """Every Linear of a real 10.x engine ran INT8: weight Q, DQ, Transpose, MatMul, tokens of three dimensions."""
    model = _model(name)
    prediction = predict_model(model, version=version)
    assert prediction.int8_layers == sum(node.op_type == "MatMul" for node in model.graph.node) == 2
    assert not prediction.float_weighted


def test_row_4_a_gemm_with_a_float_input_stays_float() -> None:
    d = Draft()
    x = d.quantized(d.tensor("x", (8, 16)))
    first = d.node("MatMul", [x, d.weights("w1", (16, 16), "w1q", "w1dq")], (8, 16), "fc1")
    soft = d.node("Softmax", [first], (8, 16), "softmax")
    second = d.node("MatMul", [soft, d.weights("w2", (16, 16), "w2q", "w2dq")], (8, 16), "fc2")
    prediction = predict(d.view(("x",), (second,)), version="10.9", scales=d.scales)
    assert prediction.int8_layers == 1
    assert [(f.node, f.reason) for f in prediction.float_weighted] == [("fc2", f"its input {soft} has no DQ")]


def _conv_q_dq_relu() -> Prediction:
    d = Draft()
    x = d.qdq(d.tensor("x", (1, 4, 8, 8)), "Q_x", "DQ_x", "x")
    y = d.node("Conv", [x, d.weights("W", (4, 4, 3, 3), "Q_w", "DQ_w")], (1, 4, 8, 8), "conv", kernel_shape=(3, 3))
    y = d.node("Relu", [d.qdq(y, "Q_y", "DQ_y", "y")], (1, 4, 8, 8), "relu")
    return predict(d.view(("x",), (y,)), version="10.15", scales=d.scales)


def test_rows_5_and_6_conv_q_dq_relu_is_one_layer() -> None:
    """10.15.1 (Turing) and 10.9 (H800, RTX 4090): `W + Q_w + conv + relu` between two reformats of Q/DQ."""
    prediction = _conv_q_dq_relu()
    assert _named(prediction) == ["Q_x", "W + Q_w + conv + relu", "DQ_y"]
    assert [layer.origin for layer in prediction.layers] == ["QDQ", "", "QDQ"]
    assert [t.dtype for t in (*prediction.layers[1].inputs, *prediction.layers[1].outputs)] == ["INT8", "INT8"]


def test_row_5_a_float_conv_is_split_from_its_relu() -> None:
    d = Draft()
    weight = d.tensor("W", (4, 4, 3, 3), constant=True)
    y = d.node("Conv", [d.tensor("x", (1, 4, 8, 8)), weight], (1, 4, 8, 8), "conv", kernel_shape=(3, 3))
    y = d.node("Relu", [d.qdq(y, "Q_y", "DQ_y", "y")], (1, 4, 8, 8), "relu")
    prediction = predict(d.view(("x",), (y,)), version="10.15", fp16=False)
    assert _named(prediction) == ["conv", "Q_y", "DQ_y", "relu"]


def _resnet18_with_qdq_on_outputs() -> Prediction:
    """ResNet-18, Q/DQ on input, weights and output (before the Relu) of its 20 convs; the fc is float."""
    d = Draft()

    def conv(x: str, scale: str, name: str, out: int, kernel: int, stride: int, size: int) -> str:
        x = d.qdq(x, f"{name}/Qx", f"{name}/DQx", scale)
        weights = d.weights(name, (out, d.shape(x)[1], kernel, kernel), f"{name}/Qw", f"{name}/DQw")
        y = d.node("Conv", [x, weights], (1, out, size, size), f"{name}/Conv", kernel_shape=(kernel, kernel),
                   strides=(stride, stride), pads=(kernel // 2,) * 4)  # fmt: skip
        return d.qdq(y, f"{name}/Qy", f"{name}/DQy", f"{name}y")

    x = conv(d.tensor("x", (1, 3, 224, 224)), "x", "conv1", 64, 7, 2, 112)
    x = d.node("MaxPool", [d.node("Relu", [x], (1, 64, 112, 112), "relu")], (1, 64, 56, 56), "maxpool")
    for layer, (out, size) in enumerate(((64, 56), (128, 28), (256, 14), (512, 7)), start=1):
        for block in (0, 1):
            name, stride, shape = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1, (1, out, size, size)
            y = d.node("Relu", [conv(x, f"{name}x", f"{name}.conv1", out, 3, stride, size)], shape, f"{name}/relu1")
            y = conv(y, f"{name}.relu1", f"{name}.conv2", out, 3, 1, size)
            skip = conv(x, f"{name}x", f"{name}.down", out, 1, stride, size) if stride > 1 else x
            x = d.node("Relu", [d.node("Add", [y, skip], shape, f"{name}/Add")], shape, f"{name}/relu2")
    x = d.node("Flatten", [d.node("GlobalAveragePool", [x], (1, 512, 1, 1), "avgpool")], (1, 512), "flatten")
    x = d.node("Gemm", [x, d.tensor("fc.weight", (1000, 512), constant=True)], (1, 1000), "fc", transB=1)
    return predict(d.view(("x",), (x,)), version="10.15", gpu="sm75", scales=d.scales)


def test_row_5_resnet18_with_qdq_on_each_conv_output_is_known_in_part() -> None:
    """43 to 44 layers, 38 with an INT8 tensor. A DQ and a Q of other scale that meet are two kernels here; what
    TensorRT does with them is unknown, so the number of layers is marked so, but all 20 convs are INT8 in and out."""
    prediction = _resnet18_with_qdq_on_outputs()
    convs = [layer for layer in prediction.layers if layer.type == "CaskConvolution"]
    assert len(convs) == 20
    assert all(t.dtype == "INT8" for layer in convs for t in (*layer.inputs, *layer.outputs))
    int8 = sum(any(t.dtype == "INT8" for t in (*layer.inputs, *layer.outputs)) for layer in prediction.layers)
    counted = {"layers": str(len(prediction.layers)), "layers with an INT8 tensor": str(int8)}
    assert counted == _predicted(5, "10.15")


def test_row_7_names_on_10_16() -> None:
    """NVIDIA's guide: `weight + weight Q + conv`, INT8 out under the name that the next Q writes."""
    d = Draft()
    x = d.quantized(d.tensor("x", (1, 32, 8, 8)))
    y = d.node("Conv", [x, d.weights("w", (32, 32, 3, 3), "w_Q", "w_DQ")], (1, 32, 8, 8), "fwd", kernel_shape=(3, 3))
    y = d.node("Relu", [y], (1, 32, 8, 8), "relu0_fwd")
    out = d.qconv(y, "next", 32, 3)
    layer = predict(d.view(("x",), (out,)), version="10.16", scales=d.scales).layers[1]
    assert layer.name == "w + w_Q + fwd + relu0_fwd"
    assert layer.outputs[0].format == "CHW32"


def test_row_8_q_k_v_of_one_tensor_are_one_kernel() -> None:
    d = Draft()
    x = d.tensor("x", (1, 8, 16))
    outputs = []
    for name in "qkv":
        y = d.qdq(x, f"{name}/Q", f"{name}/DQ", "x")
        weights = d.weights(f"{name}.w", (16, 16), f"{name}/Qw", f"{name}/DQw")
        outputs.append(d.node("MatMul", [y, weights], (1, 8, 16), name))
    out = d.node("Add", [d.node("Add", outputs[:2], (1, 8, 16)), outputs[2]], (1, 8, 16))
    layers = predict(d.view(("x",), (out,)), version="10.9", scales=d.scales).layers
    layer = next(layer for layer in layers if layer.type == "Myelin")
    assert (layer.attributes["weighted_inside"], layer.attributes["int8_inside"]) == (3, 3)
    assert layer.attributes["kernels_estimated"] == 2


def test_row_9_linears_are_int8_on_10_3_and_a_zero_point_is_refused() -> None:
    """Every MatMul of Qwen3-0.6B by weights runs INT8; TensorRT's parser refuses a zero point, lint says so."""
    model = _model("linear3d_torch_transpose")
    assert predict_model(model, version="10.3").int8_layers == 2
    assert "not-symmetric-int8" not in {finding.rule for finding in lint(model)}
    quantize = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2)
    zero = next(value for value in model.graph.initializer if value.name == quantize.input[2])
    zero.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(zero) + np.int8(3), zero.name))
    found = {finding.message for finding in lint(model) if finding.rule == "not-symmetric-int8"}
    assert found == {"a zero point that is not zero, which TensorRT refuses"}


def test_row_10_a_conv_without_a_q_behind_it_is_int8_in_and_float_out() -> None:
    """11.0, RTX 4060: the tactic shown of yolo26n is `i8f32_i8i32_f32`."""
    d = Draft()
    y = d.qconv(d.tensor("x", (1, 32, 8, 8)), "a", 32, 3)
    y = d.node("Mul", [y, d.node("Sigmoid", [y], (1, 32, 8, 8), "sigmoid")], (1, 32, 8, 8), "mul")
    prediction = predict(d.view(("x",), (y,)), version="11.0", gpu="sm89", scales=d.scales)
    layer = next(layer for layer in prediction.layers if layer.type == "CaskConvolution")
    assert layer.attributes["int8"]
    assert layer.inputs[0].dtype == "INT8"
    assert layer.outputs[0].dtype.startswith("FP")


@pytest.mark.parametrize(("gpu", "inside"), [("sm75", True), ("sm120", False)])
def test_rows_1_and_12_silu_is_in_the_conv_but_on_blackwell(gpu: str, inside: bool) -> None:
    """sm_120: `__myl_SiluCastMulMinMaxRounCast`, SiLU and the Q in a kernel of their own."""
    d = Draft()
    y = d.qconv(d.tensor("x", (1, 32, 8, 8)), "a", 32, 3)
    y = d.node("Mul", [y, d.node("Sigmoid", [y], (1, 32, 8, 8), "sigmoid")], (1, 32, 8, 8), "mul")
    out = d.qconv(y, "b", 32, 3)
    prediction = predict(d.view(("x",), (out,)), version="10.14", gpu=gpu, scales=d.scales)
    conv = prediction.layers[1]
    assert ("mul" in conv.nodes) is inside
    if not inside:
        silu = prediction.layers[2]
        assert silu.type == "kgen"
        assert silu.outputs[0].dtype == "INT8"


def test_row_13_first_kernels_of_a_resnet_on_sm_100() -> None:
    """lix_dmt_bev: Q kernel, conv_act_pool, two convs, then DQ, DQ, Add, Relu and Q as one kernel."""
    d = Draft()
    x = d.qdq(d.tensor("img", (7, 3, 544, 960)), "img_Q", "img_DQ", "img")

    def conv(x: str, name: str, channels: int, out: int, size: tuple[int, int], relu: bool) -> str:
        weights = d.weights(name, (out, channels, 3, 3), f"{name}_Qw", f"{name}_DQw")
        y = d.node("Conv", [x, weights], (7, out, *size), f"{name}/Conv", kernel_shape=(3, 3))
        y = d.node("Relu", [y], (7, out, *size), f"{name}/Relu") if relu else y
        return d.qdq(y, f"{name}_Q", f"{name}_DQ", name)

    x = conv(x, "conv1", 3, 64, (272, 480), True)
    x = d.node("MaxPool", [x], (7, 64, 136, 240), "maxpool")
    x = d.qdq(x, "pool_Q", "pool_DQ", "conv1")
    y = conv(conv(x, "l1.conv1", 64, 64, (136, 240), True), "l1.conv2", 64, 64, (136, 240), False)
    y = d.node("Relu", [d.node("Add", [y, x], (7, 64, 136, 240), "add")], (7, 64, 136, 240), "relu")
    out = conv(d.qdq(y, "relu_Q", "relu_DQ", "relu"), "l2.conv1", 64, 64, (136, 240), True)
    prediction = predict(d.view(("img",), (out,)), version="10", gpu="sm100", scales=d.scales)
    assert [layer.type for layer in prediction.layers] == [
        "kgen", "conv_act_pool", "correlation", "correlation", "kgen", "correlation", "kgen",
    ]  # fmt: skip
    add = prediction.layers[4]
    assert [t.dtype for t in (*add.inputs, *add.outputs)] == ["INT8"] * 3
    assert set(add.nodes) == {"add", "relu"}
    assert {layer.origin for layer in prediction.layers} == {"QDQ", ""}


def test_rows_14_and_15_silu_and_add_go_into_a_float_conv_from_10_5_on() -> None:
    """`Conv + PWN(PWN(PWN(Sigmoid),PWN(Mul)),PWN(Add))`; Q/DQ networks print PWN(PWN(Sigmoid, Mul), Add)."""
    d = Draft()
    x = d.tensor("x", (1, 32, 8, 8))
    weight = d.tensor("w", (32, 32, 3, 3), constant=True)
    y = d.node("Conv", [x, weight], (1, 32, 8, 8), "conv", kernel_shape=(3, 3))
    y = d.node("Mul", [y, d.node("Sigmoid", [y], (1, 32, 8, 8), "sigmoid")], (1, 32, 8, 8), "mul")
    out = d.node("Add", [x, y], (1, 32, 8, 8), "add")
    view = d.view(("x",), (out,))
    names = {
        version: [n for n in _named(predict(view, version=version)) if "Reformat" not in n]
        for version in ("8.6.0", "10.7")
    }
    assert names["10.7"] == ["conv + PWN(PWN(sigmoid, mul), add)"]
    assert names["8.6.0"][0] == "conv"


def test_row_16_which_conv_takes_the_add_under_implicit_int8_is_unknown() -> None:
    """10.14.1: the earlier conv in 3 of 4 blocks; Q/DQ logs of 8.4 and 10.9 show the later, so that is predicted."""
    d = Draft()
    x = d.quantized(d.tensor("x", (1, 32, 8, 8)))
    branches = []
    for name in ("first", "second"):
        weights = d.weights(name, (32, 32, 3, 3), f"{name}_Q", f"{name}_DQ")
        branches.append(d.node("Conv", [x, weights], (1, 32, 8, 8), name, kernel_shape=(3, 3)))
    out = d.node("Add", branches, (1, 32, 8, 8), "add")
    layers = predict(d.view(("x",), (out,)), version="10.14", scales=d.scales).layers
    taker = next(layer for layer in layers if "add" in layer.nodes)
    assert "second" in taker.nodes
    assert taker.attributes["confidence"] == "seen in another version"


def test_row_17_clip_goes_into_the_conv_and_what_its_dq_and_a_q_become_is_unknown() -> None:
    """8.5 or 8.6: `.. + Conv_55 + PWN(Clip_56) + DequantizeLinear_62 + QuantizeLinear_378_clone_0` is one layer."""
    d = Draft()
    x = d.quantized(d.tensor("x", (1, 32, 8, 8)))
    weights = d.weights("w", (32, 32, 3, 3), "w_Q", "w_DQ")
    y = d.node("Conv", [x, weights], (1, 32, 8, 8), "Conv_55", kernel_shape=(3, 3))
    y = d.node("Clip", [y], (1, 32, 8, 8), "Clip_56")
    y = d.qdq(y, "QuantizeLinear_59", "DequantizeLinear_62", "clip")
    y = d.node("Concat", [y, d.tensor("z", (1, 32, 8, 8))], (1, 64, 8, 8), "concat", axis=1)
    y = d.qdq(y, "QuantizeLinear_378", "DequantizeLinear_381", "concat")
    weights = d.weights("v", (32, 64, 3, 3), "v_Q", "v_DQ")
    y = d.node("Conv", [y, weights], (1, 32, 8, 8), "next", kernel_shape=(3, 3))
    for version in ("8.5.2", "8.6.0"):
        prediction = predict(d.view(("x", "z"), (y,)), version=version, scales=d.scales)
        named = ["w + w_Q + Conv_55 + PWN(Clip_56)", "DequantizeLinear_62", "QuantizeLinear_378_clone_0"]
        assert _named(prediction)[1:4] == named
        assert _predicted(17, version)["conv + PWN(Clip) + DQ + clone of a Q"] == f"{len(named)} layers"


@pytest.mark.parametrize(("version", "kind"), [("8.4", "ConvActPool"), ("10.10", "CaskConvActPool")])
def test_rows_16_and_17_the_stem_with_its_pool_is_called_as_the_version_prints_it(version: str, kind: str) -> None:
    prediction = predict_model(_model("stem_int8"), version=version)
    assert [layer.type for layer in prediction.layers] == ["Reformat", kind, "Reformat"]


def test_row_18_modelopts_pattern_conv_bn_silu_add_with_qdq_on_the_residual() -> None:
    prediction = predict_model(_model("yolo_bottleneck_silu_add"), version="10.9")
    fused = next(layer for layer in prediction.layers if "/m.0/Add" in layer.nodes)
    assert {"/m.0/cv2/conv/Conv", "/m.0/Add"} <= set(fused.nodes)
    assert Counter(t.dtype for t in (*fused.inputs, *fused.outputs)) == {"INT8": 3}
    older = predict_model(_model("yolo_bottleneck_silu_add"), version="8.6.0")
    assert any(layer.type == "ElementWise" for layer in older.layers)


def test_nearest_version_with_evidence_stands_for_one_without() -> None:
    pairs = {"8.0.1": "8.4", "8.5.3": "8.5.2", "8.5.10": "8.5.10", "8.6.3": "8.6.1", "10": "10.9", "10.3": "10.5",
             "10.12.0": "10.10", "10.16.1": "10.16", "11.2": "11.1", "12": "11.1"}  # fmt: skip
    for asked, like in pairs.items():
        assert version_of(asked).like == like, asked
