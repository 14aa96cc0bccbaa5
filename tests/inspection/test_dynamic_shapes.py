"""Engines that name no types: read off kernels and weights. The rule is counted on engines that do name them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from quantbench.inspection.dynamic_types import NOTE, fill_types
from quantbench.inspection.gather import gather
from quantbench.inspection.layer_json import read_layer_info
from quantbench.layers.categories import category
from quantbench.layers.kernel_types import kernel_types
from quantbench.layers.layer import Layer

JSON = Path(__file__).parents[1] / "data" / "artefacts" / "json"
PRINTED = "N/A due to dynamic shapes"


def _tensor(name: str, *dims: int) -> dict[str, object]:
    return {"Name": name, "Location": "Device", "Dimensions": list(dims), "Format/Datatype": PRINTED}


@pytest.mark.parametrize(
    ("kernel", "types"),
    [
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32", ("INT8", "INT8")),
        ("sm80_xmma_fprop_implicit_gemm_indexed_i8f16_i8i32_f32_nchw", ("INT8", "FP16")),
        ("sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize32x32x64", ("FP16", "FP16")),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nhwc", ("FP32", "FP32")),
        ("turing_fp16_i8816cudnn_int8_128x128_ldg16_relu_small_nt_v1", ("INT8", "FP16")),
        ("ampere_first_layer_filter3x3_imma_fwd", ("", "")),
    ],
)
def test_types_in_kernel_names(kernel: str, types: tuple[str, str]) -> None:
    assert kernel_types(kernel) == types


def test_kernel_names_agree_with_the_types_of_engines_that_tell_them() -> None:
    seen = wrong_in = wrong_out = 0
    for path in sorted(JSON.glob("*graph.json")):
        for layer in read_layer_info(json.loads(path.read_text())).layers:
            read, written = kernel_types(layer.tactic)
            if read and layer.inputs and layer.outputs and category(layer) == "convolution":
                seen += 1
                wrong_in += read != layer.inputs[0].dtype
                wrong_out += written != layer.outputs[0].dtype
    assert seen >= 100
    assert wrong_in == 0
    assert wrong_out == 0


def test_a_whole_engine_with_its_types_taken_away_gets_them_back() -> None:
    layers = read_layer_info(json.loads((JSON / "trex_pt_qat_resnet-qat.onnx.engine.graph.json").read_text())).layers
    bare = [
        replace(x, inputs=tuple(replace(t, dtype="?") for t in x.inputs),
                outputs=tuple(replace(t, dtype="?") for t in x.outputs))
        for x in layers
    ]  # fmt: skip
    convs = [(a, b) for a, b in zip(layers, fill_types(bare), strict=True) if category(a) == "convolution"]
    assert len(convs) == 21
    told = [(a, b) for a, b in convs if b.inputs[0].dtype != "?"]
    assert len(told) >= 20
    assert all(a.inputs[0].dtype == b.inputs[0].dtype for a, b in told)


def test_dynamic_shapes_are_said_and_counted(tmp_path: Path) -> None:
    entries = [
        {"Name": "x_QuantizeLinear", "LayerType": "Reformat", "Inputs": [_tensor("x", -1, 3, 64, 64)],
         "Outputs": [_tensor("q0", -1, 3, 64, 64)], "Origin": "QDQ"},
        {"Name": "w + w_QuantizeLinear + /a/Conv", "LayerType": "CaskConvolution",
         "Weights": {"Type": "Int8", "Count": 9},
         "Inputs": [_tensor("q0", -1, 3, 64, 64)], "Outputs": [_tensor("c0", -1, 16, 64, 64)],
         "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_tensor16x8x32"},
        {"Name": "/p/MaxPool", "LayerType": "CaskPooling", "Inputs": [_tensor("c0", -1, 16, 64, 64)],
         "Outputs": [_tensor("p0", -1, 16, 32, 32)]},
        {"Name": "/b/Conv", "LayerType": "CaskConvolution", "Weights": {"Type": "Half", "Count": 9},
         "Inputs": [_tensor("h0", -1, 16, 32, 32)], "Outputs": [_tensor("y", -1, 32, 32, 32)],
         "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tensor16x8x16"},
    ]  # fmt: skip
    (tmp_path / "d.graph.json").write_text(json.dumps({"Layers": entries, "Bindings": ["x", "y"]}))
    inspection = gather([tmp_path / "d.graph.json"])[0]
    assert NOTE in inspection.notes
    types = [(x.inputs[0].dtype, x.outputs[0].dtype) for x in inspection.layers]
    assert types == [("?", "INT8"), ("INT8", "INT8"), ("INT8", "INT8"), ("FP16", "FP16")]


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("CaskJitConv", "/r/Conv + PWN(/r/Add)", "convolution"),
        ("conv_act_pool", "/c/Conv_myl2_15", "convolution"),
        ("CaskConvActPool", "/c/Conv", "convolution"),
        ("CaskGemmConvolution", "fc", "convolution"),
        ("fusion", "__myl_FcCastAdd_myl88_12", "gemm"),
        ("fusion", "__myl_AddMul_myl8_1", "pointwise"),
        ("ConvActPool", "c", "convolution"),
    ],
)
def test_layer_types_of_tensorrt_10(kind: str, name: str, expected: str) -> None:
    assert category(Layer(name=name, type=kind)) == expected
