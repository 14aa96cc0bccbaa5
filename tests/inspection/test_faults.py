"""Faults that public logs and dumps showed: what is said of left-over Q/DQ, of names and of engines only loaded."""

from quantbench.inspection.circumstances import one_line
from quantbench.inspection.fate import op_of_name, trace
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import BuildLog, collect
from quantbench.inspection.logs.lexer import lex
from quantbench.inspection.verdicts import float_layers, leftover_qdq, tensor_cores
from quantbench.layers.layer import Layer, LayerTensor


def _tensor(name: str, dtype: str, *dims: int) -> LayerTensor:
    return LayerTensor(name, dtype, dims=dims or (1, 16, 8, 8))


def _log(*messages: str) -> BuildLog:
    return collect(lex([f"[V] [TRT] {message}" for message in messages]))


def test_q_and_dq_that_a_quantizing_pass_removes_go_into_the_layer_that_it_runs_on() -> None:
    build = _log(
        "Running: QuantizeConvWithResidualAdd on Conv_34", "Removing QuantizeLinear_40", "Removing DequantizeLinear_31",
        "Running: ShuffleErasure on Reshape_9", "Removing QuantizeLinear_77",
        "Running: DqQFusion on DequantizeLinear_747", "Removing DequantizeLinear_747",
    ).build  # fmt: skip
    fates = {f.name: (f.status, f.into) for f in trace(build, ())}
    assert fates == {
        "QuantizeLinear_40": ("fused", "Conv_34"), "DequantizeLinear_31": ("fused", "Conv_34"),
        "QuantizeLinear_77": ("removed", ""), "DequantizeLinear_747": ("cancelled", ""),
    }  # fmt: skip


def test_names_of_q_and_dq_by_tf2onnx_and_by_hand() -> None:
    assert op_of_name("QuantLinearNode__622") == "Q"
    assert op_of_name("resnet/DequantLinearNode__3") == "DQ"
    assert op_of_name("QuantizeLinear_20_output_0") == ""
    int8 = Layer("w + /Q_w + /c/Conv", "CaskConvolution", (_tensor("a", "INT8"),), nodes=("/Q_w", "/c/Conv"))
    attention = Layer("/attn/Q", "gemm", (_tensor("a", "FP16"),), nodes=("/attn/Q",))
    assert [(f.name, f.op) for f in trace(None, (int8, attention))] == [("/Q_w", "Q")]


def test_one_q_at_the_input_is_a_cost_and_kernels_are_counted_by_their_nodes() -> None:
    q = Layer("x_QuantizeLinear", "Reformat", (_tensor("x", "FP32"),), (_tensor("q", "INT8"),), origin="QDQ",
              nodes=("x_QuantizeLinear",))  # fmt: skip
    conv = Layer("c", "CaskConvolution", (_tensor("q", "INT8"),), (_tensor("c0", "FP16"),), nodes=("c",))
    both = Layer("k", "kgen", (_tensor("c0", "FP16"),), (_tensor("y", "FP16"),),
                 nodes=("a_QuantizeLinear", "a_DequantizeLinear"))  # fmt: skip
    (only,) = leftover_qdq.judge(Inspection("t", (), layers=(q, conv)))
    assert (only.severity, only.title) == ("cost", "1 Q or DQ left over as copies")
    (found,) = leftover_qdq.judge(Inspection("t", (), layers=(q, conv, both)))
    assert (found.severity, found.title) == ("problem", "3 Q and DQ left over as copies (in 2 kernels)")
    assert found.items[1].detail.startswith("a Q and the DQ behind it in one kernel")


def test_layers_whose_q_dq_are_in_place_are_not_told_to_be_quantized() -> None:
    nodes = ("/c/Conv", "w_QuantizeLinear", "w_DequantizeLinear")
    placed = Layer("/c/Conv", "CaskConvolution", (_tensor("a", "FP16"),), (_tensor("b", "FP16"),), nodes=nodes)
    bare = Layer("/d/Conv", "CaskConvolution", (_tensor("b", "FP16"),), (_tensor("c", "INT8"),), nodes=("/d/Conv",))
    last = Layer("/e/Conv", "CaskConvolution", (_tensor("c", "INT8"),), (_tensor("d", "FP16"),), nodes=("/e/Conv",))
    (all_placed,) = float_layers.judge(Inspection("t", (), layers=(placed, last)))
    assert all_placed.advice.startswith("Their Q/DQ or scales are there")
    (some,) = float_layers.judge(Inspection("t", (), layers=(placed, bare, last)))
    assert some.advice.startswith("Quantize 1 of their inputs")


def test_a_kernel_whose_name_tells_nothing_is_not_accused() -> None:
    layers = tuple(
        Layer(n, "CaskConvolution", (_tensor("a", "INT8"),), (_tensor("b", "INT8"),), tactic=n)
        for n in ("sm100_conv_act_pool_v5_s8_s32_s8_NDHWC", "sm70_xmma_fprop_conv1x1_i8f32_f32_f32_nchw_simt_small")
    )
    (found,) = tensor_cores.judge(Inspection("t", (), layers=layers))
    assert [item.name for item in found.items] == ["sm70_xmma_fprop_conv1x1_i8f32_f32_f32_nchw_simt_small"]


def test_precision_of_an_engine_that_was_only_loaded_is_not_claimed() -> None:
    lines = [
        "&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec --loadEngine=m.engine",
        "[I] === Build Options ===", "[I] Precision: FP32", "[I] === Device Information ===",
        "[I] Selected Device: Orin", "[I] Compute Capability: 8.7",
    ]  # fmt: skip
    log = collect(lex(lines))
    assert one_line(Inspection("t", (), log=log)) == "Orin (compute capability 8.7)"
    built = collect(lex([lines[0].replace("--loadEngine=m.engine", "--onnx=m.onnx"), *lines[1:]]))
    assert "precision FP32" in one_line(Inspection("t", (), log=built))
    metadata = {"device_information": {"Selected Device": "A100", "Compute Capability": 8.0}}
    assert one_line(Inspection("t", (), metadata=metadata)) == "A100 (compute capability 8.0)"
