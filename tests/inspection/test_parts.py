"""Small parts: wordings of formats, names, tactics, pass registry."""

import string
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.inspection.circumstances import circumstances, one_line
from quantbench.inspection.gather import gather
from quantbench.inspection.logs.build_log import collect, read_build_log
from quantbench.inspection.logs.header import version_of
from quantbench.inspection.logs.lexer import lex
from quantbench.inspection.logs.profile_table import ProfileTable
from quantbench.inspection.passes.registry import OF_KIND, PASSES, lookup, similar
from quantbench.layers.categories import category, is_leftover_qdq, weight_dtype
from quantbench.layers.formats import normalise_dtype, parse_format, vector_format
from quantbench.layers.layer import BYTES_PER_ELEMENT, Layer
from quantbench.layers.names import (
    metadata_nodes,
    nodes_of,
    reformat_target,
    split_parts,
    strip_clone,
    strip_profile,
)

ARTEFACTS = Path(__file__).parents[1] / "data" / "artefacts"
JSON, LOGS = ARTEFACTS / "json", ARTEFACTS / "logs"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Row major linear FP32", ("FP32", "kLINEAR", 1)),
        ("Row major linear FP16 format", ("FP16", "kLINEAR", 1)),
        ("Row major Int8 format", ("INT8", "kLINEAR", 1)),
        ("Row major linear INT32", ("INT32", "kLINEAR", 1)),
        ("Row major linear BOOL", ("BOOL", "kLINEAR", 1)),
        ("Two wide channel vectorized row major FP16 format", ("FP16", "CHW2", 2)),
        ("Four wide channel vectorized row major Int8 format.", ("INT8", "CHW4", 4)),
        ("Sixteen wide channel vectorized row major FP16 format", ("FP16", "CHW16", 16)),
        ("Thirty-two wide channel vectorized row major Int8 format", ("INT8", "CHW32", 32)),
        ("Thirty-two wide channel vectorized row major FP32 format", ("FP32", "CHW32", 32)),
        ("Thirty-two wide channel vectorized row major Int8 format with 3 spatial dimensions", ("INT8", "CDHW32", 32)),
        ("Channel major FP16 format where channel % 8 == 0", ("FP16", "HWC8", 8)),
        ("Channel major INT8 format where channel % 4 == 0", ("INT8", "HWC4", 4)),
        ("Channel major FP16 format where channel % 8 == 0 with 3 spatial dimensions", ("FP16", "DHWC8", 8)),
        ("Channel major FP32 format", ("FP32", "HWC", 1)),
        ("Row major INT8 format where column stride % 32 == 0", ("INT8", "DLA_LINEAR", 1)),
        ("Channel major FP16 format where channel == 4 and column stride % 32 == 0", ("FP16", "DLA_HWC4", 4)),
        ("Row major linear FP32 format (kLINEAR)", ("FP32", "kLINEAR", 1)),
        ("Half", ("FP16", "", 1)),
        ("Unknown format", ("?", "", 1)),
        ("", ("?", "", 1)),
    ],
)
def test_format_wordings(text: str, expected: tuple[str, str, int]) -> None:
    assert parse_format(text) == expected


@given(st.text(max_size=40))
def test_any_wording_gives_a_known_dtype_or_a_question_mark(text: str) -> None:
    assert parse_format(text)[0] in {*BYTES_PER_ELEMENT, "?"}
    assert normalise_dtype(text) in {*BYTES_PER_ELEMENT, "?"}


def test_vector_widths_of_the_classic_form() -> None:
    assert [vector_format(d, v) for d, v in (("INT8", 32), ("INT8", 4), ("FP16", 8), ("FP16", 16), ("FP32", 1))] == [
        "CHW32", "CHW4", "HWC8", "HWC16", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("W + Q + Conv", ("W", "Q", "Conv")),
        ("A + a || B", ("A", "a", "B")),
        ("PWN(/relu)", ("/relu",)),
        ("PWN((Unnamed Layer* 9) [X] + /a, PWN(PWN(/b, /c), /d))", ("(Unnamed Layer* 9) [X]", "/a", "/b", "/c", "/d")),
        ("{ForeignNode[/a/b.../c/d]}", ("/a/b", "/c/d")),
        ("{ForeignNode[/a]}", ("/a",)),
        ("Reformatting CopyNode for Input Tensor 0 to /a + /b [profile 1]", ("/a", "/b")),
        ("odd(name", ("odd(name",)),
        ("f(a + b) + c", ("f(a + b)", "c")),
    ],
)
def test_parts_of_names(name: str, parts: tuple[str, ...]) -> None:
    assert split_parts(name) == parts


def test_nodes_of_names() -> None:
    assert nodes_of("w + /q/QuantizeLinear + /Conv + PWN(/Relu)") == ("/q/QuantizeLinear", "/Conv", "/Relu")
    torch = "[CONVOLUTION]-[aten_ops.convolution.default]-[/conv1/convolution] + [RELU]-[aten_ops.relu.default]-[/relu]"
    assert nodes_of(torch) == ("/conv1/convolution", "/relu")
    assert nodes_of("b3/read:0 + (Unnamed Layer* 21) [Shuffle]") == ("b3/read:0",)
    assert metadata_nodes("[ONNX Layer: a]\x1e[ONNX Layer: b]\x1f[ONNX Layer: a]") == ("a", "b")
    assert metadata_nodes("") == ()
    assert strip_clone("/a/QuantizeLinear_clone_0_clone_1") == "/a/QuantizeLinear"
    assert strip_profile("a [profile 2]") == "a"
    assert reformat_target("Reformatted Input Tensor 0 to x + y") == "x + y"
    assert reformat_target("x") is None


@given(st.lists(st.text(string.ascii_letters + "/_.:[]0123456789", min_size=1, max_size=12), min_size=1, max_size=5))
def test_joined_names_come_apart(parts: list[str]) -> None:
    whole = [p for p in parts if not p.startswith("{")]
    assert split_parts(" + ".join(whole)) == tuple(whole)


def test_categories_and_leftovers() -> None:
    assert category(Layer("a", "CaskConvolution")) == "convolution"
    assert category(Layer("__myl_FcAdd_1", "runtime_fusion")) == "gemm"
    assert category(Layer("__myl_MulAdd_1", "runtime_fusion")) == "pointwise"
    assert category(Layer("t", "TrainStation")) == "sync"
    assert is_leftover_qdq(Layer("q", "Reformat", origin="QDQ"))
    assert is_leftover_qdq(Layer("q", "Scale", nodes=("/x/QuantizeLinear",)))
    assert not is_leftover_qdq(Layer("Reformatting CopyNode for Input Tensor 0 to q", "Reformat", origin="REFORMAT"))
    assert weight_dtype(Layer("p", "CaskPooling")) == ""


@pytest.mark.parametrize(
    ("message", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # x", "8.5.2"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8412] # x", "8.4.12"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101601] # x", "10.16.1"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v7103] # x", "7.1.3"),
        ("&&&& RUNNING quantbench.build [TensorRT-RTX v1.7.1.116] # x", "RTX 1.7.1.116"),
        ("Loaded shared library libnvinfer_builder_resource.so.10.4.0", "10.4.0"),
        ("TensorRT version: 8.4.12", "8.4.12"),
        ("&&&& RUNNING TensorRT.trtexec # /trtexec --onnx=a", ""),
    ],
)
def test_versions(message: str, version: str) -> None:
    assert version_of(message) == version


def test_tactics_of_the_8_0_log_equal_plain_text() -> None:
    path = ARTEFACTS / "logs" / "cookbook84_trtexec_result-FP16.txt"
    text = path.read_text()
    choices = read_build_log(path).build.tactics.choices
    assert len(choices) == text.count("Chose Runner Type:")
    conv = choices[0]
    # Lines 314 to 364 by hand: Conv__25 + Relu in float; of all kernels Cask's 7144526460361122478 wins.
    assert conv.layer == "Conv__25 + Relu"
    assert conv.best is not None
    assert (conv.best.runner, conv.best.tactic) == ("CaskConvolution", "7144526460361122478")
    block = text.split("\n")[313:364]
    times = sorted(float(x.rsplit("Time: ", 1)[1]) for x in block if "] Tactic: " in x and "Time: " in x)
    assert conv.best.time_ms == times[0]
    assert conv.runner_up is not None
    assert conv.runner_up.time_ms == times[1]
    assert conv.timed == len(times)


def test_tactics_of_tensorrt_7_with_skips() -> None:
    log = collect(
        lex(
            [
                "[TensorRT] VERBOSE: *************** Autotuning format combination: Float(1,1,1,120) -> Float(1,10) *",
                "[TensorRT] VERBOSE: --------------- Timing Runner: 2-layer MLP: a -> b (CudnnMLPFC)",
                "[TensorRT] VERBOSE: Tactic: 0 skipped. Scratch requested: 672, available: 0",
                "[TensorRT] VERBOSE: Fastest Tactic: -3360065831133338131 Time: 3.40282e+38",
                "[TensorRT] VERBOSE: --------------- Timing Runner: 2-layer MLP: a -> b (CudaMLP)",
                "[TensorRT] VERBOSE: Tactic: 0 time 0.017696",
                "[TensorRT] VERBOSE: Tactic: 1 time 0.018",
                "[TensorRT] VERBOSE: Fastest Tactic: 0 Time: 0.017696",
                "[TensorRT] VERBOSE: >>>>>>>>>>>>>>> Chose Runner Type: CudaMLP Tactic: 0",
            ]
        )
    )
    (choice,) = log.build.tactics.choices
    assert choice.layer == "2-layer MLP: a -> b"
    assert choice.best is not None
    assert (choice.best.runner, choice.best.time_ms, choice.skipped, choice.timed) == ("CudaMLP", 0.017696, 1, 2)
    assert choice.margin == pytest.approx(0.018 / 0.017696 - 1)


def test_profile_tables_of_both_forms() -> None:
    old, new = ProfileTable(), ProfileTable()
    old.open("=== Profile (11 iterations ) ===")
    for row in ("   Layer   Time (ms)   Avg. Time (ms)   Median Time (ms)   Time %", " a + b 44.52 4.0473 4.0484 1.0",
                " c   2.0  0.2  0.2  0.1", "  Total  46.52  4.2473  4.2484  100.0"):  # fmt: skip
        old.feed(row)
    new.open("=== Profile (3 iterations ) ===")
    for row in ("   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer", "  44.52  4.0473  4.0484  1.0   a + b 7",
                "  46.5  4.2  4.2  100.0   Total"):  # fmt: skip
        new.feed(row)
    assert old.rows == [("a + b", 44.52, 4.0473, 1.0), ("c", 2.0, 0.2, 0.1)]
    assert (old.iterations, old.total_ms) == (11, 46.52)
    assert new.rows == [("a + b 7", 44.52, 4.0473, 1.0)]
    assert new.total_ms == 46.5


def test_every_named_pass_of_issue_and_logs_has_an_entry() -> None:
    named = (
        "ConstQDQInitializersFusion ConstWeightsQuantizeFusion ConstWeightsFusion QConvScaleFusion "
        "QuantizeDoubleInputNodes QuantizeSingleInputNodes QuantizeConvWithResidualAdd SplitQAcrossPrecedingFanIn "
        "VanillaSwapWithFollowingQ VanillaSwapWithPreceedingDQ HorizontalMergeQNodes QDQToCopy ConvReluFusion "
        "GenericConvActFusion ConvEltwiseSumFusion PointWiseFusion EltwiseAddToPwn ScaleActivationFusion "
        "ConstShuffleFusion ShuffleShuffleFusion PoolingErasure"
    )
    assert set(named.split()) <= PASSES.keys()
    assert set(OF_KIND.values()) <= PASSES.keys()
    logged = {
        step.name
        for path in sorted((ARTEFACTS / "logs").iterdir())
        if (story := gather([path])[0].story) is not None
        for step in story.steps
        if step.name
    }
    assert logged <= PASSES.keys()


@pytest.mark.parametrize("entry", PASSES.values(), ids=lambda e: e.name)
def test_each_entry_is_whole(entry: object) -> None:
    from quantbench.inspection.passes.entry import PassEntry

    assert isinstance(entry, PassEntry)
    assert 0 <= entry.phase <= 7
    assert entry.does.endswith(".")
    assert entry.int8
    lines = entry.drawing.split("\n")
    assert sum("becomes" in line for line in lines) == 1
    assert max(map(len, lines)) <= 100


def test_lookup_is_kind() -> None:
    assert lookup("qconvscalefusion") is PASSES["QConvScaleFusion"]
    assert lookup("nothing") is None
    assert "QDQToCopy" in similar("qdq")


def test_ten_builds_of_a_long_log_are_told_apart(tmp_path: Path) -> None:
    """How fast: scripts/bench_inspect.py."""
    one = (ARTEFACTS / "logs" / "trt852_qdq_yolo_verbose.log").read_bytes()
    big = tmp_path / "big.log"
    big.write_bytes(one * 10)
    inspection = gather([big])[0]
    assert inspection.log is not None
    assert len(inspection.log.builds) == 10


def test_circumstances_are_those_that_the_files_state() -> None:
    (from_json,) = gather([JSON / "trex_pt_qat_resnet-qat.onnx.engine.graph.json"])
    found = circumstances(from_json)
    assert found["device"]["Selected Device"] == "NVIDIA A100 80GB PCIe"
    assert found["build"]["Precision"] == "FP32+FP16+INT8"
    assert found["measured"]["Input inference shape"] == "input.1=32x3x224x224"
    assert found["measured"]["Latency"].startswith("min 0.878601, max 0.889893, mean ")
    (from_log,) = gather([LOGS / "trt852_qdq_yolo_verbose.log"])
    found = circumstances(from_log)
    assert found["build"]["command"].startswith("/usr/src/tensorrt/bin/trtexec --int8")
    assert one_line(from_log) == "Orin (compute capability 8.7), precision FP32+INT8"
    assert "Sparsity" not in found["build"]  # "Disabled"


def test_the_weights_of_a_names_only_engine_are_folded_not_in_a_kernel() -> None:
    (found,) = gather([JSON / "trex_poetry_notebooks_layer_info.json"])
    assert Counter(f.status for f in found.fates) == {"folded": 43, "left over": 12}
