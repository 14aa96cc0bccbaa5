"""Lines of versions and programs of which no whole log is here: their prefixes and the forms of their sentences.

The lines are written after public threads (named beside them), with other names in them.
"""

import lzma
from collections import Counter
from pathlib import Path

import pytest

from quantbench.inspection.logs.build_log import collect, understood_share
from quantbench.inspection.logs.forms import form_of
from quantbench.inspection.logs.kinds import NOT_LOG_LINES
from quantbench.inspection.logs.lexer import lex, read_events

SHARED = Path(__file__).parents[3] / "shared"
OTHERS = [*sorted((SHARED / "artefacts" / "logs").glob("*")), *sorted((SHARED / "logs-nolicence").glob("*.log.xz"))]


def _events(text: str) -> list[tuple[str, str]]:
    return [(event.kind, event.message) for event in lex(text.strip("\n").split("\n"))]


@pytest.mark.skipif(not OTHERS, reason="the logs lie beside the checkout, not in it")
def test_logs_that_do_not_ship_are_understood_to_98_percent() -> None:
    shares = {}
    for path in OTHERS:
        kinds = Counter(event.kind for event in read_events(path))
        lines = sum(n for kind, n in kinds.items() if kind not in NOT_LOG_LINES)
        shares[path.name] = 1 - kinds["unknown"] / lines
    assert len(shares) >= 18
    assert min(shares.values()) >= 0.98, shares


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        # TensorRT 7: NVIDIA/TensorRT#1090, #795
        ("[V] [TRT] ModelImporter.cpp:103: Parsing node: c1 [Conv]", "parse-node", "Parsing node: c1 [Conv]"),
        ("[TensorRT] VERBOSE: ImporterContext.hpp:120: Searching for input: x", "search-input",
         "Searching for input: x"),
        ("[02/01/2021-17:53:38] [V] [TRT] /w/onnx-tensorrt/ImporterContext.hpp:132: Registering layer: a for ONNX "
         "node: a",
         "register", "Registering layer: a for ONNX node: a"),
        ("[TensorRT] VERBOSE: ModelImporter.cpp:125:  [Add] inputs: [8 -> (1, 64)], [9 -> (1, 64)], ", "node-inputs",
         " [Add] inputs: [8 -> (1, 64)], [9 -> (1, 64)], "),
        # Windows prints no date: onnx/onnx-tensorrt#588
        ("[12:15:24] [V] [TRT] Allocated persistent device memory of size 1070592", "memory",
         "Allocated persistent device memory of size 1070592"),
        # jetson-inference prints no level
        ("[TRT]    Tactic: 0x00000000000003ea Time: 0.00364102", "tactic",
         "Tactic: 0x00000000000003ea Time: 0.00364102"),
        # onnxruntime: microsoft/onnxruntime#4505
        ("2020-07-14 11:29:28.409070242 [W:onnxruntime:Default, tensorrt_execution_provider.h:36 log] "
         "[2020-07-14 10:29:28   ERROR] Network validation failed.", "error", "Network validation failed."),
        # TF-TRT: tensorflow/tensorrt#119
        ("2021-01-07 22:13:56.065442: E tensorflow/compiler/tf2tensorrt/utils/trt_logger.cc:41] DefaultLogger Builder "
         "failed while configuring INT8 mode.", "error", "Builder failed while configuring INT8 mode."),
        # Triton: triton-inference-server/server#317
        ("E0530 23:11:46.299486 1 logging.cc:43] The engine plan file is not compatible", "error",
         "The engine plan file is not compatible"),
        # samples with a logger of their own: CaoWGG/TensorRT-CenterNet#7
        ("WARNING: Calibrator is not being used. Users must provide dynamic range for all tensors that are not Int32.",
         "calibration",
         "Calibrator is not being used. Users must provide dynamic range for all tensors that are not Int32."),
        ("ERROR: 3: Conv_0:kernel weights has count 0 but 1728 was expected", "error",
         "3: Conv_0:kernel weights has count 0 but 1728 was expected"),
        ("[WARNING] Missing scale and zero-point for tensor a, expect fall back to non-int8 "
         "implementation for any layer",
         "missing-scale",
         "Missing scale and zero-point for tensor a, expect fall back to non-int8 implementation for any layer"),
        ("DEBUG: [Torch-TensorRT] - Removing a", "remove", "Removing a"),
        # what belongs to another program stays its own
        ("INFO: loading the data set", "program", "INFO: loading the data set"),
        ("WARNING: the disk is nearly full", "program", "WARNING: the disk is nearly full"),
    ],
)  # fmt: skip
def test_prefixes(line: str, kind: str, message: str) -> None:
    assert _events(line) == [(kind, message)]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        # Each is a sentence that no rule begins with; a version to come may word it still otherwise.
        ("Builder timing cache: created 40 entries, 20 hit(s)", "timing-cache"),
        ("Tactic 0x12 exceeds the time limit and is skipped", "tactic-skip"),
        ("Conv_1: 32 available tactics, 0 unparsable, 16 pruned, 16 remaining after tactic pruning.", "cost"),
        ("/a/MatMul: broadcasting input1 to make tensors conform, dims(input0)=[4,1,2][NONE] dims(input1)=[1,2,2][NONE]"
         ".",
         "import-detail"),
        ("{ForeignNode[a...b]} successfully offloaded to DLA.", "placement"),
        ("\tPool Sizes: Managed SRAM = 1 MiB,\tLocal DRAM = 1024 MiB", "placement"),
        ("No layer is running on DLA", "placement"),
        ("Rejected the int8 kernels of Conv_3: tensor 12 has no scale", "rejected-int8"),
        ("Dynamic range of tensor a is [-1, 1]", "dynamic-range"),
        ("Tensor 606 is uniformly zero; network calibration failed.", "calibration"),
        ("  List of affected weights: Conv_144 + Relu_145.weight", "import-detail"),
        ("Blorbing quux sideways", "unknown"),
    ],
)  # fmt: skip
def test_sentences_that_no_beginning_tells(message: str, kind: str) -> None:
    assert _events(f"[V] [TRT] {message}") == [(kind, message)]


def test_rejections_in_the_words_of_7_and_8_0_name_their_layer() -> None:
    lines = [
        "[V] [TRT] Rejecting int8 implementation of layer Conv_1 due to missing int8 scales, will choose a "
        "non-int8 one.",
        "[V] [TRT] Rejecting some int8 implementation of layer Conv_2 due to missing int8 scales for tensor 4 at "
        "input 0",
    ]
    fields = [event.fields for event in lex(lines)]
    assert [f["layer"] for f in fields] == ["Conv_1", "Conv_2"]
    assert [f.get("missing") for f in fields] == [None, "tensor 4 at input 0"]


def test_a_profile_table_without_prefixes_is_read() -> None:
    log = collect(lex([
        "[I] === Performance summary ===", "   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer",
        "     12.40       0.0124       0.0120      60.0   /conv1/Conv + /relu/Relu",
        "      8.27       0.0083       0.0081      40.0   Reformatting CopyNode for Input Tensor 0 to fc",
        "     20.67       0.0207       0.0201     100.0   Total",
    ]))  # fmt: skip
    assert [row[0] for row in log.build.profile.rows] == [
        "/conv1/Conv + /relu/Relu", "Reformatting CopyNode for Input Tensor 0 to fc",
    ]  # fmt: skip
    assert log.build.profile.total_ms == 20.67


def test_dumped_outputs_are_no_profile() -> None:
    """10.16 with --dumpOutput: name and dims, then the values."""
    log = collect(lex([
        "[07/07/2026-02:11:47] [I] === Performance summary ===", "[07/07/2026-02:11:47] [I] y: (1x10)",
        "[07/07/2026-02:11:47] [I] -0.0518188 0.000385761 0.0417786 0.27002 -5e-04",
    ]))  # fmt: skip
    assert log.build.profile.rows == []
    assert log.kinds["output"] == 2


def test_made_up_ranges_are_counted_by_their_tensors() -> None:
    log = collect(lex([
        "[V] [TRT] Setting dynamic range for images to [-2,2]", "[V] [TRT] Setting dynamic range for /a/Conv to [-4,4]",
        "[V] [TRT] User overriding scale with scale and zero-point Quantization(scale: {0.0315,}, zero-point: {0,})",
        "[V] [TRT] Assigning b scale and zero-point ",
        "[V] [TRT] using (Unnamed Layer* 1) [Shuffle]_output scale and zero-point Quantization(scale: {0.0315,}, "
        "zero-point: {0,})",
    ]))  # fmt: skip
    assert log.build.ranges == {"images": (-2.0, 2.0), "/a/Conv": (-4.0, 4.0)}
    assert set(log.build.scales) == {"(Unnamed Layer* 1) [Shuffle]_output", "b"}


def test_forms_leave_names_and_numbers_out() -> None:
    assert form_of("Fast skip Tactic:0x4609 which exceed time") == form_of("Fast skip Tactic:0x1 which exceed time")
    assert form_of("a/b: broadcasting input1") != form_of("a/b: casting input1")
    assert understood_share(collect(lex([]))) == (0, 1.0)


@pytest.mark.skipif(not OTHERS, reason="the logs lie beside the checkout, not in it")
def test_layer_json_with_raw_separators_is_read() -> None:
    """8.6.0 writes U+001E into its JSON unescaped."""
    from quantbench.inspection.detect import detect

    path = SHARED / "logs-nolicence" / "bevfusion_fuser_RTX3080Ti_trt8.6.0_int8fp16_layers.json.xz"
    assert "\x1e" in lzma.decompress(path.read_bytes()).decode()
    assert detect(path).kind == "layer-info"
