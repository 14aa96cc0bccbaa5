"""Verdicts on real artefacts; each rule against what the file says."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from quantbench.inspection.gather import gather
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.layer_json import read_layer_info
from quantbench.inspection.logs.build_log import collect
from quantbench.inspection.logs.lexer import lex
from quantbench.inspection.verdicts.judge import judge
from quantbench.inspection.verdicts.tensor_cores import uses_tensor_cores
from quantbench.inspection.verdicts.verdict import Verdict

ARTEFACTS = Path(__file__).parents[1] / "data" / "artefacts"
JSON, LOGS = ARTEFACTS / "json", ARTEFACTS / "logs"


def _verdicts(path: Path) -> Mapping[str, Verdict]:
    return {v.rule: v for v in judge(gather([path])[0])}


def _of(inspection: Inspection) -> Mapping[str, Verdict]:
    return {v.rule: v for v in judge(inspection)}


def test_int8_in_float_out_of_the_a100_engine() -> None:
    found = _verdicts(JSON / "trex_pt_qat_resnet-qat.onnx.engine.graph.json")["int8_in_float_out"]
    assert found.severity == "problem"
    assert found.title.startswith("13 of 21 ")
    why = {item.name: item.detail for item in found.items}
    assert "MaxPool_12 reads it in float" in why["Conv_9"]
    assert "its Q was not fused and runs as a copy of its own (QuantizeLinear_65)" in why["Conv_59 + Add_61 + Relu_62"]
    assert "adds it as a residual in float: that edge carries no Q/DQ" in why["Conv_84"]


def test_int8_in_float_out_of_the_rtx_build_names_the_kernel_that_holds_the_q() -> None:
    found = _verdicts(LOGS / "trtrtx17_resnet18_fp32_then_qdq.log")["int8_in_float_out"]
    assert found.title.startswith("20 of 21 ")
    why = {item.name: item.detail for item in found.items}
    assert "/body/body.0/c1/Conv_output_0_QuantizeLinear" in why["/body/body.0/c1/Conv"]
    assert "compiled into the pointwise kernel behind it together with /body/body.0/Relu" in why["/body/body.0/c1/Conv"]


def test_leftover_q_names_the_float_residual_as_its_cause() -> None:
    found = _verdicts(JSON / "trex_pt_qat_resnet-qat.onnx.engine.graph.json")["leftover_qdq"]
    causes = {item.name: item.detail for item in found.items}
    assert len(causes) == 10
    assert causes["QuantizeLinear_2"] == "it quantizes an input of the network"
    assert "residual input (inputs, FP16) is float" in causes["QuantizeLinear_40"]
    assert "MaxPool_12 (TiledPooling) runs in FP32" in causes["QuantizeLinear_15"]
    better = _verdicts(JSON / "trex_pt_qat-residual_resnet-qat-residual.onnx.engine.graph.json")["leftover_qdq"]
    assert {i.name for i in better.items} == {"QuantizeLinear_2", "DequantizeLinear_291", "QuantizeLinear_298"}


def test_reformats_name_who_gives_and_who_wants() -> None:
    found = _verdicts(JSON / "trex_pt_qat_resnet-qat.onnx.engine.graph.json")["reformats"]
    details = [item.detail for item in found.items]
    assert len(details) == 2
    assert details[0].startswith("FP32 kLINEAR to FP16 CHW32: MaxPool_12 gives the first, QuantizeLinear_15")


def test_channels_and_tensor_cores() -> None:
    found = _verdicts(JSON / "trex_mobilenet.qat.onnx.engine.graph.json")
    bad = {item.name: item.detail for item in found["channels"].items}
    assert "C=3 not a multiple of 16" in bad["Conv_12 + Clip_16"]
    assert "normal" in bad["Conv_12 + Clip_16"]
    assert "K=24" in bad["Conv_94"]
    # Their kernels: volta_int8x4_icudnn_… (dp4a) and sm70_xmma_…_simt_… (plain instructions).
    assert [i.name for i in found["tensor_cores"].items] == ["Conv_12 + Clip_16", "Gemm_864 + classifier.1.bias"]


@pytest.mark.parametrize(
    ("kernel", "uses"),
    [
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32_tensor16x8x32_t1r3s3", True),
        ("ampere_first_layer_filter3x3_imma_fwd", True),
        ("turing_h1688cudnn_256x64_ldg8_relu_exp_small_nhwc_tn_v1", True),
        ("ampere_fp32_icudnn_int8x4_128x64_relu_medium_nn_v1", False),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nchw_tilesize64x64x8_ffma_t1r5s5_aligna4_alignc4", False),
        ("maxwell_scudnn_128x32_relu_medium_nn_v1", False),
    ],
)
def test_kernel_names(kernel: str, uses: bool) -> None:
    assert uses_tensor_cores(kernel) is uses


def test_runner_up_of_the_8_5_log() -> None:
    """Lines 8283 to 8296 by hand: of conv1's kernels the best takes 58.8474 ms, the next 60.2465 ms."""
    found = _verdicts(LOGS / "trt852_qdq_yolo_verbose.log")["runner_up"]
    first = found.items[0]
    assert first.name == "/backbone/conv1/Conv"
    assert first.time_ms == 58.8474
    assert first.detail.startswith("ampere_fp32_icudnn_int8x4_128x64_relu_medium_nn_v1 58.85 ms, next ")
    assert first.detail.endswith(f"ampere_fp32_icudnn_int8x4_128x32_relu_medium_nn_v1 60.25 ms (+{OVER:.1f} %)")


OVER = 100 * (60.2465 / 58.8474 - 1)


def test_memory_of_the_8_5_log() -> None:
    """Lines 12653 and 12660; line 12554 states activations before blocks were shared."""
    details = {i.name: i.detail for i in _verdicts(LOGS / "trt852_qdq_yolo_verbose.log")["memory"].items}
    assert details["Total Activation Memory"] == f"{756727296 / 2**20:.1f} MiB"
    assert details["Total Scratch Memory"] == f"{89769472 / 2**20:.1f} MiB"


def test_dla_placement_of_the_jetson_excerpts() -> None:
    """By hand: lines 121-132 hold 5 DLA and 6 GPU lines, 254-258 2 and 2, 602-604 1 and 1."""
    path = LOGS / "jetson_dla_tutorial_excerpts.md"
    for number, (dla, gpu) in enumerate([(5, 6), (2, 2), (1, 1)], 1):
        inspection = gather([path], build=number)[0]
        assert inspection.build is not None
        devices = [device for device, _, _ in inspection.build.placements]
        assert (devices.count("DLA"), devices.count("GPU")) == (dla, gpu)
        assert _of(inspection)["placement"].title.startswith(f"{dla} subgraph")
    first = gather([path], build=1)[0]
    details = {i.name: i.detail for i in _of(first)["placement"].items}
    assert details["InstanceNormalization_5"] == "on GPU (plugin_v2): the DLA cannot run it"


def test_a_tensor_without_scale_is_a_problem() -> None:
    found = _verdicts(LOGS / "cookbook1016_05-Plugin_UseINT8-PTQ_log-main.py.log")
    assert [i.name for i in found["missing_scales"].items] == ["outputT0"]
    assert "Calibrator is not being used" in found["calibration"].items[0].name


def test_rejected_int8_explains_a_float_layer() -> None:
    log = collect(
        lex(
            [
                "[TensorRT] WARNING: Rejecting some int8 implementation of layer Conv_2 due to missing int8 scales for "
                "tensor 427 at output index 0",
                "[TensorRT] VERBOSE: Engine Layer Information:",
                "[TensorRT] VERBOSE: Layer(CaskConvolution): Conv_2, Tactic: 5, x[Float(1,3,8,8)] -> 427[Float(1,8)]",
            ]
        )
    )
    found = _of(Inspection("t", (), layers=log.build.layers, log=log, build=log.build))
    assert [(i.name, i.detail) for i in found["rejected_int8"].items] == [
        ("Conv_2", "no scale for tensor 427 at output index 0")
    ]
    assert "INT8 was rejected, no scale for tensor 427" in found["float_layers"].items[0].detail


def test_float_layers_of_the_rtx_build() -> None:
    found = _verdicts(LOGS / "trtrtx17_resnet18_fp32_then_qdq.log")["float_layers"]
    assert [(i.name, i.detail) for i in found.items] == [("/fc/Gemm", "runs in FP32: no Q/DQ feeds it")]


def test_a_float_engine_is_not_scolded_for_being_float() -> None:
    found = _verdicts(JSON / "trex_pt_fp16_resnet.onnx.engine.graph.json")
    assert "float_layers" not in found
    assert "int8_in_float_out" not in found


def test_names_only_json_gets_a_clear_word() -> None:
    found = _verdicts(JSON / "trex_poetry_notebooks_layer_info.json")["names_only"]
    assert "--profilingVerbosity=detailed" in found.advice


def test_a_log_cut_off_before_the_layers() -> None:
    log = collect(lex(["[V] [TRT] Original: 3 layers", "[E] [TRT] out of memory"]))
    found = _of(Inspection("t", (), log=log, build=log.build))
    assert found["cut_off"].items[0].name == "out of memory"
    assert found["errors"].severity == "problem"


def test_a_quantized_gemm_with_float_weights_is_told() -> None:
    record = {
        "Name": "g", "LayerType": "gemm", "TacticName": "k",
        "Inputs": [{"Name": "x", "Dimensions": [8, 16], "Format/Datatype": "Half"}],
        "Outputs": [{"Name": "y", "Dimensions": [8, 16], "Format/Datatype": "Half"}],
        "Weights": {"Type": "Int8", "Count": 256},
    }  # fmt: skip
    other = record | {"Name": "q", "Inputs": [{"Name": "z", "Dimensions": [8, 16], "Format/Datatype": "Int8"}]}
    layers = read_layer_info({"Layers": [record, other]}).layers
    detail = _of(Inspection("t", (), layers=layers))["float_layers"].items[0].detail
    assert "its weights are INT8, its input is not" in detail
