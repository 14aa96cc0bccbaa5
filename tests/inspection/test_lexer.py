"""The lexer on every real log, on cut-off logs, and on lines made up of hostile names."""

import itertools
import string
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.inspection.logs.build_log import collect
from quantbench.inspection.logs.fields import parse_fields
from quantbench.inspection.logs.kinds import KINDS, NOT_LOG_LINES
from quantbench.inspection.logs.lexer import Event, classify, lex, read_events
from quantbench.inspection.logs.prefix import split_prefix

ARTEFACTS = Path(__file__).parents[1] / "data" / "artefacts"
LOGS = sorted((ARTEFACTS / "logs").iterdir())
SEEDS = sorted((Path(__file__).parents[3] / "shared" / "seeds").glob("*.txt"))
TENSORRT_WORDS = ("Tactic", "Fusing", "LayerType", "Layer(", "[TRT]", "Running:", "QuantizeLinear")


@pytest.mark.parametrize("path", [*LOGS, *SEEDS], ids=lambda p: p.name)
def test_every_real_log_line_has_a_known_kind(path: Path) -> None:
    events = list(read_events(path))
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        assert len(events) == sum(1 for _ in lines)
    assert {e.kind for e in events} <= KINDS.keys()
    log_lines = [e for e in events if e.kind not in NOT_LOG_LINES]
    unknown = [e for e in log_lines if e.kind == "unknown"]
    assert len(unknown) <= 0.005 * len(log_lines), unknown[:10]


@pytest.mark.parametrize("path", LOGS, ids=lambda p: p.name)
def test_nothing_of_tensorrt_is_set_aside_as_not_being_a_log_line(path: Path) -> None:
    """No prefixed line and no line with TensorRT's words counts as the program's output (Markdown prose may quote)."""
    for event in read_events(path):
        if event.kind == "program":
            assert event.level == ""
            assert not any(word in event.message for word in TENSORRT_WORDS), event


def test_kind_counts_of_the_8_5_log_equal_a_count_by_plain_text(artefacts: Path) -> None:
    path = artefacts / "logs" / "trt852_qdq_yolo_verbose.log"
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    kinds = Counter(e.kind for e in read_events(path))
    assert kinds["pass-run"] == sum("[TRT] Running: " in line for line in lines) == 483
    assert kinds["parse-node"] == sum("[TRT] Parsing node: " in line for line in lines)
    assert kinds["node-inputs"] == sum("] inputs: " in line for line in lines)
    assert kinds["node-outputs"] == sum("] outputs: " in line for line in lines)
    assert kinds["tactic"] == sum("[TRT] Tactic: " in line for line in lines)
    assert kinds["runner"] == sum("Timing Runner: " in line for line in lines)
    assert kinds["layer"] == sum(line.startswith("Layer(") for line in lines) == 86
    assert kinds["swap"] == sum("[TRT] Swapping " in line for line in lines)
    assert kinds["duplicate"] == sum(" which duplicates " in line for line in lines)
    assert kinds["quantize-fuse"] == sum("QuantizeDoubleInputNodes: fusing" in line for line in lines)


@pytest.mark.parametrize(
    ("line", "level", "trt", "message"),
    [
        ("[01/10/2024-21:52:53] [V] [TRT] Removing a", "verbose", True, "Removing a"),
        ("[07/07/2026-06:12:18] [TRT] [W] Removing a", "warning", True, "Removing a"),
        ("[V] Removing a", "verbose", False, "Removing a"),
        ("[I] [TRT] Removing a", "info", True, "Removing a"),
        ("[TensorRT] VERBOSE: Removing a", "verbose", True, "Removing a"),
        ("[TensorRT] INTERNAL_ERROR: bad", "fatal", True, "bad"),
        ("TensorRT INFO Removing a", "info", True, "Removing a"),
        ("Severity.VERBOSE Removing a", "verbose", True, "Removing a"),
        ("[03/19/2022-12:28:30] [03/19/2022-12:28:30] [V] [TRT] Removing a", "verbose", True, "Removing a"),
        (" [01/10/2024-21:52:52] [V] [TRT] Removing a", "verbose", True, "Removing a"),
        ("[[01/10/2024-21:52:50] [I] === Model Options ===", "info", False, "=== Model Options ==="),
        ("[01/10/2024-21:52:50] [I] ", "info", False, ""),
        ("2024-01-10T21:52:53Z stdout F [01/10/2024-21:52:53] [V] [TRT] Removing a", "verbose", True, "Removing a"),
        ("worker-0 | [TRT] [I] Removing a", "info", True, "Removing a"),
        ("\x1b[33m[W] [TRT] Removing a\x1b[0m", "warning", True, "Removing a"),
        ("[2022-11-08 06:01:58 WARNING] Missing scale", "warning", True, "Missing scale"),
        ("WARNING: [Torch-TensorRT TensorRT Conversion Context] - Missing scale", "warning", True, "Missing scale"),
        ("[12, 13]", "", False, "[12, 13]"),
        ("Layer(NoOp): a", "", False, "Layer(NoOp): a"),
    ],
)
def test_prefixes(line: str, level: str, trt: bool, message: str) -> None:
    found = split_prefix(line)
    assert (found.level, found.trt, found.message) == (level, trt, message)


@pytest.mark.parametrize(
    ("message", "kind", "fields"),
    [
        ("Running: QConvScaleFusion on /a, b -> c[0]", "pass-run", {"pass": "QConvScaleFusion", "layer":
         "/a, b -> c[0]"}),
        ("Running: FCToConvTransform", "pass-run", {"pass": "FCToConvTransform"}),
        ("ConvReluFusion: Fusing /with with /x with /y", "fuse",
         {"pass": "ConvReluFusion", "layer": "/with with /x", "with": "/y"}),
        ("Fusing (Unnamed Layer* 0) [Convolution] with (Unnamed Layer* 1) [Activation]", "fuse",
         {"pass": "", "layer": "(Unnamed Layer* 0) [Convolution]", "with": "(Unnamed Layer* 1) [Activation]"}),
        ("QuantizeDoubleInputNodes: fusing (a/DequantizeLinear and w/DequantizeLinear) into /Conv", "quantize-fuse",
         {"pass": "QuantizeDoubleInputNodes", "nodes": ("a/DequantizeLinear", "w/DequantizeLinear"), "layer": "/Conv"}),
        ("QuantizeDoubleInputNodes: fusing q/QuantizeLinear into /Conv", "quantize-fuse",
         {"pass": "QuantizeDoubleInputNodes", "nodes": ("q/QuantizeLinear",), "layer": "/Conv"}),
        ("Eliminating q2 which duplicates (Q) q1", "duplicate", {"layer": "q2", "sort": "Q", "twin": "q1"}),
        ("Swapping /Slice with /Q_clone_0", "swap", {"layer": "/Slice", "with": "/Q_clone_0"}),
        ("Swap the layer type of q from QUANTIZE to kQDQ", "retype", {"layer": "q", "from": "QUANTIZE", "to": "kQDQ"}),
        ("Merging layers: A + a || B || C", "merge", {"layers": ("A + a", "B", "C")}),
        ("After tensor merging: 153 layers", "stage", {"stage": "tensor merging", "layers": "153"}),
        ("Original: 755 layers", "stage", {"stage": "Original", "layers": "755"}),
        ("Tactic: 0x00000000000003e8 Time: 0.00582967", "tactic", {"tactic": "0x00000000000003e8", "time": 0.00582967}),
        ("Tactic: 8190451076631534509 time 0.028288", "tactic", {"tactic": "8190451076631534509", "time": 0.028288}),
        ("Tactic: 0 skipped. Scratch requested: 672, available: 0", "tactic",
         {"tactic": "0", "skipped": "skipped. Scratch requested: 672, available: 0"}),
        ("Tactic Name: sm80_x Tactic: 0x5deb29b7a8e275f7 Time: 0.0521752", "tactic",
         {"kernel": "sm80_x", "tactic": "0x5deb29b7a8e275f7", "time": 0.0521752}),
        ("a (x) Set Tactic Name: volta Tactic: 12", "tactic-name", {"layer": "a (x)", "kernel": "volta",
         "tactic": "12"}),
        ("a + b (CaskConvolution[0x80000009]) profiling completed in 0.08 seconds. Fastest Tactic: 0xd8 Time: 0.05",
         "fastest", {"layer": "a + b", "runner": "CaskConvolution", "seconds": "0.08", "tactic": "0xd8", "time": 0.05}),
        ("Fastest Tactic: -3360065831133338131 Time: 3.40282e+38", "fastest",
         {"tactic": "-3360065831133338131", "time": 3.40282e38}),
        ("--------------- Timing Runner: a -> (b) [c] (Cudnn[0x80000000])", "runner",
         {"layer": "a -> (b) [c]", "runner": "Cudnn"}),
        (">>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: 0xd8", "chosen",
         {"runner": "CaskConvolution", "tactic": "0xd8"}),
        ("[GpuLayer] CONVOLUTION: a: b", "placement", {"device": "Gpu", "type": "CONVOLUTION", "layer": "a: b"}),
        ("[DlaLayer] {ForeignNode[a...b]}", "placement", {"device": "Dla", "layer": "{ForeignNode[a...b]}"}),
        ("Parsing node: a [b] [Conv]", "parse-node", {"node": "a [b]", "op": "Conv"}),
        ("x [Conv] inputs: [a, [b] -> (1, -1)[FLOAT]], [c -> ()[INT8]], ", "node-inputs",
         {"node": "x", "op": "Conv", "tensors": (("a, [b]", (1, -1), "FLOAT"), ("c", (), "INT8"))}),
        ("Missing scale and zero-point for tensor o, expect fall back to non-int8", "missing-scale", {"tensor": "o"}),
        ("INT8 Inference Tensor scales and zero-points: a: b scale and zero-point Quantization(scale: {0.5,0.25,}, "
         "zero-point: {0,0,})", "scale", {"tensor": "a: b", "scales": (0.5, 0.25)}),
        ("Rejecting some int8 implementation of layer L, m due to missing int8 scales for tensor T at input index 0",
         "rejected-int8", {"layer": "L, m", "missing": "tensor T at input index 0"}),
        ("Layer: a Host Persistent: 80 bytes Device Persistent: 0 bytes Scratch Memory: 12 bytes", "memory",
         {"layer": "a", "host": "80", "device": "0", "scratch": "12"}),
        ("Layer: a HostPersistent: 3 DevicePersistent: 4", "memory", {"layer": "a", "host": "3", "device": "4"}),
        ("Adding reformat layer: Reformatted Input Tensor 0 to a + b (t:0) from Float(1,1:4,3) to Int8(4,5)",
         "reformat",
         {"layer": "Reformatted Input Tensor 0 to a + b", "tensor": "t:0", "source": "Float(1,1:4,3)",
         "target": "Int8(4,5)"}),
        ("Generating copy for a to b because of stomping hazard.", "copy",
         {"tensor": "a", "into": "b", "why": "of stomping hazard."}),
        ("Eliminating slice /S by retargeting /o from /o to /c", "slice-removal",
         {"layer": "/S", "tensor": "/o", "from": "/o", "to": "/c"}),
    ],
)  # fmt: skip
def test_kind_and_fields(message: str, kind: str, fields: dict[str, object]) -> None:
    assert classify(message) == kind
    assert dict(parse_fields(kind, message)) == fields


def test_truncation_at_every_line_keeps_the_head(artefacts: Path) -> None:
    text = (artefacts / "logs" / "cookbook1016_10-TensorRT-RTX_log-main.py-trtrtx-verbose.log").read_text()
    lines = text.split("\n")
    whole = list(lex(lines))
    for cut in range(len(lines)):
        assert list(lex(lines[:cut])) == whole[:cut]
        tail = list(lex(lines[cut:]))
        assert len(tail) == len(lines) - cut
        assert all(e.kind != "unknown" for e in tail)


@given(st.lists(st.text(max_size=60).filter(lambda s: "\n" not in s), max_size=20), st.booleans())
def test_any_text_is_kept_line_by_line(lines: list[str], markdown: bool) -> None:
    events = list(lex(lines, markdown=markdown))
    assert [e.line for e in events] == list(range(1, len(lines) + 1))
    for event in events:
        assert event.kind in KINDS
        assert isinstance(event.fields, dict)


@given(st.sampled_from(sorted(KINDS)), st.text(max_size=80))
def test_fields_never_raise(kind: str, message: str) -> None:
    parse_fields(kind, message)


NAME = st.text(alphabet=string.ascii_letters + "0123456789/_.:,+|->[]() ", min_size=1, max_size=30).map(str.strip)


@given(NAME.filter(bool), NAME.filter(lambda n: bool(n) and " with " not in n))
def test_fused_names_come_back(first: str, second: str) -> None:
    event = Event(1, "fuse", f"ConvReluFusion: Fusing {first} with {second}")
    assert event.fields == {"pass": "ConvReluFusion", "layer": first, "with": second}


def test_streams_without_reading_ahead() -> None:
    def endless() -> itertools.chain[str]:
        return itertools.chain.from_iterable(itertools.repeat(["[V] [TRT] Removing a\n"]))

    assert [e.line for e in itertools.islice(lex(endless()), 3)] == [1, 2, 3]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_encodings_and_line_ends_of_windows(tmp_path: Path, encoding: str, ending: str) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(ending.join(["[V] [TRT] Removing ä", "[V] [TRT] Original: 3 layers", ""]).encode(encoding))
    events = list(read_events(path))
    assert [(e.kind, e.message) for e in events] == [("remove", "Removing ä"), ("stage", "Original: 3 layers")]


POLYGRAPHY = """\
[I] RUNNING | Command: /usr/bin/polygraphy convert model.onnx -o model.engine -vv
[V] Loaded Module: tensorrt | Version: 8.6.0 | Path: ['/usr/lib/python3/dist-packages/tensorrt']
[V] [MemUsageChange] Init CUDA: CPU +14, GPU +0, now: CPU 32, GPU 848 (MiB)
[V] ----------------------------------------------------------------
[V] Input filename:   model.onnx
[V]     Setting TensorRT Optimization Profiles
[V]     Input tensor: x (dtype=DataType.FLOAT, shape=(-1, 3, 64, 64)) | Setting input tensor shapes to: (min=[1, 3])
[I] Building engine with configuration:
    Flags                  | [INT8]
    Profiling Verbosity    | ProfilingVerbosity.DETAILED
[X] Original: 7 layers
[X] QuantizeDoubleInputNodes: fusing (xDQ and wDQ) into Conv_1
[X] Engine Layer Information:
Layer(CaskConvolution): Conv_1, Tactic: 0x0000000000000001, x (Int8[1,3,8,8]) -> y (Int8[1,32:32,8,8])
[V] Total Activation Memory: 512
[I] Finished engine building in 0.321 seconds
[!] Invalid Engine. Please ensure the engine was built correctly
"""


def test_polygraphy_logs_tensorrts_verbose_lines_with_its_own_letter() -> None:
    events = list(lex(POLYGRAPHY.splitlines()))
    assert [e.kind for e in events] == [
        "program", "library", "memory", "onnx-header", "onnx-header", "program", "program", "program", "program",
        "program", "stage", "quantize-fuse", "layer-dump", "layer", "memory", "program", "error",
    ]  # fmt: skip
    log = collect(events)
    assert log.version == "8.6.0"
    assert [layer.name for layer in log.build.layers] == ["Conv_1"]
    assert log.kinds["unknown"] == 0
