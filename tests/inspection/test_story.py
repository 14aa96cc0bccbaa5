"""Fusion stories: the seed's yolov8 log against a count by hand, the 8.5 log against plain text."""

import re
from collections import Counter
from pathlib import Path

import pytest

from quantbench.inspection.fate import trace
from quantbench.inspection.logs.build_log import Build, collect, read_build_log
from quantbench.inspection.logs.lexer import lex
from quantbench.inspection.story import Story, stage_changes, tell
from quantbench.layers.names import strip_clone

SEEDS = Path(__file__).parents[3] / "shared" / "seeds"
YOLO = sorted(SEEDS.glob("004_*.txt"))


@pytest.fixture(scope="module")
def build_852() -> Build:
    path = Path(__file__).parents[1] / "data" / "artefacts" / "logs" / "trt852_qdq_yolo_verbose.log"
    return read_build_log(path).build


# Counted by hand in the seed: pass -> lines of its `Running:` lines.
RUNNING = {
    "ConstShuffleFusion": [342],
    "ShuffleShuffleFusion": [351],
    "ConstQDQInitializersFusion": [362, 363, 364, 365, 366, 367, 374, 375, 376, 387, 389, 391, 393, 395],
    "ScaleActivationFusion": [407, 409, 411, 413],
    "ConstWeightsQuantizeFusion": [426, 428, 430],
    "ConvReluFusion": [450, 452, 454],
    "SplitQAcrossPrecedingFanIn": [466, 467, 468, 469, 470],
    "VanillaSwapWithFollowingQ": [483, 522, 524],
    "HorizontalMergeQNodes": [500, 503],
    "PointWiseFusion": [538],
    "QConvScaleFusion": [549, 551],
    "QuantizeDoubleInputNodes": [564, 570, 576],
    "ConstWeightsFusion": [589, 591],
    "QDQToCopy": [628, 630, 632],
    "EltwiseAddToPwn": [642, 644],
}
# What the passes did: pass -> lines.
DID = {
    "ConstShuffleFusion": [343],
    "ShuffleShuffleFusion": [352],
    "ScaleActivationFusion": [408, 410, 412],
    "ConstWeightsQuantizeFusion": [427, 429, 431],
    "ConvReluFusion": [451, 453, 455],
    "VanillaSwapWithFollowingQ": [482, 484, 523, 525],
    "HorizontalMergeQNodes": [501, 504],
    "PointWiseFusion": [539],
    "QuantizeDoubleInputNodes": [565, 566, 571, 572, 577, 578],
    "ConstWeightsFusion": [590, 592],
    "QDQToCopy": [629, 631, 633],
    "EltwiseAddToPwn": [643, 645],
    "Merging layers": [659, 660, 661, 662, 663],
    "Eliminating slice": [671, 672, 673],
    "Eliminating concatenation": [689, 692],
    "Generating copy": [690],
    "Retargeting": [691, 693, 694, 695],
}


def _lines(story: Story, kinds: set[str], inside: bool) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for step in story.steps:
        if (step.kind in kinds) is inside:
            found.setdefault(step.name, []).append(step.line)
    return found


@pytest.mark.parametrize("path", YOLO, ids=lambda p: p.name)
def test_yolov8_passes_equal_the_count_by_hand(path: Path) -> None:
    story = tell(read_build_log(path).build)
    assert _lines(story, {"pass-run"}, inside=True) == RUNNING
    assert {n: len(v) for n, v in RUNNING.items()} == dict(story.runs)
    assert _lines(story, {"pass-run", "remove"}, inside=False) == DID
    # Removed by QConvScaleFusion: line 550 backbone0's BN + Relu, line 552 backbone1's.
    assert [s.line for s in story.steps if s.kind == "remove" and s.name == "QConvScaleFusion"] == [550, 552]


@pytest.mark.parametrize("path", YOLO, ids=lambda p: p.name)
def test_yolov8_twins_swaps_and_fused_convs_equal_the_count_by_hand(path: Path) -> None:
    build = read_build_log(path).build
    fates = {f.name: f for f in trace(build, build.layers)}
    twins = {f.name: (f.twin, f.lines[0]) for f in fates.values() if f.status == "merged"}
    assert twins == {
        "/model/backbone2/cv2/conv/_input_quantizer/QuantizeLinear_clone_1":
            ("/model/backbone2/m.0/cv1/conv/_input_quantizer/QuantizeLinear", 501),
        "/model/backbone4/cv2/conv/_input_quantizer/QuantizeLinear_clone_1":
            ("/model/backbone4/m.0/cv1/conv/_input_quantizer/QuantizeLinear", 504),
    }  # fmt: skip
    swapped = {(line, f.moves[0]) for f in fates.values() if f.moves for line in f.lines[:1]}
    assert {s for s in swapped if "Slice" in s[1]} == {
        (482, "/model/backbone2/Slice"), (484, "/model/backbone4/Slice"),
        (523, "/model/backbone2/Slice_1"), (525, "/model/backbone4/Slice_1"),
    }  # fmt: skip
    into = Counter(f.into for f in fates.values() if f.status == "fused")
    # Three convs; each takes the DQ of its input and of its weights (566, 572, 578), the Q behind it (565, 571, 577).
    assert into == {
        "/model/backbone0/conv/Conv": 3,
        "/model/backbone1/conv/Conv": 3,
        "/model/backbone2/cv1/conv/Conv": 3,
    }
    copies = {f.name: f.lines[0] for f in fates.values() if f.status == "left over"}
    assert copies == {
        "/model/backbone0/conv/_input_quantizer/QuantizeLinear": 629,
        "/model/head12/cv1/conv/_input_quantizer/QuantizeLinear_clone_0": 631,
        "/model/head15/cv1/conv/_input_quantizer/QuantizeLinear_clone_0": 633,
    }
    assert fates["/model/head12/cv1/conv/_input_quantizer/QuantizeLinear_clone_0"].node.endswith("/QuantizeLinear")


@pytest.mark.parametrize("path", YOLO, ids=lambda p: p.name)
def test_yolov8_stages(path: Path) -> None:
    stages = [(line, stage, layers) for line, stage, layers in tell(read_build_log(path).build).stages]
    assert stages == [
        (334, "Original", 755), (336, "dead-layer removal", 755), (604, "dupe layer removal", 153),
        (605, "final dead-layer removal", 153), (606, "tensor merging", 153),
    ]  # fmt: skip


def test_passes_of_the_8_5_log_equal_plain_text(build_852: Build, artefacts: Path) -> None:
    text = (artefacts / "logs" / "trt852_qdq_yolo_verbose.log").read_text(errors="replace")
    story = tell(build_852)
    assert dict(story.runs) == dict(Counter(re.findall(r"\[TRT\] Running: (\w+) on ", text)))
    for name, number in Counter(re.findall(r"\[TRT\] (\w+): [Ff]using ", text)).items():
        assert story.effects[name] == number
    assert story.unknown_passes == ()
    removed = re.findall(r"\[TRT\] Removing ", text)
    assert sum(s.kind == "remove" for s in story.steps) == len(removed)
    assert [s.line for s in story.steps] == sorted(s.line for s in story.steps)
    assert sum(len(story.of_phase(n)) for n in range(8)) == len(story.steps)


def test_stage_counts_of_the_8_5_log(build_852: Build) -> None:
    stages = tell(build_852).stages
    assert stages[0] == (4645, "Original", 730)
    assert stages[-1] == (12552, "reformat layers", 86)
    assert sum(change for *_, change in stage_changes(stages)) == 86 - 730


def test_every_q_and_dq_of_the_8_5_log_is_traced(build_852: Build, artefacts: Path) -> None:
    """86 Q and 86 DQ nodes are parsed (`Parsing node: … [QuantizeLinear]`); 4 more are clones."""
    text = (artefacts / "logs" / "trt852_qdq_yolo_verbose.log").read_text(errors="replace")
    parsed = set(re.findall(r"Parsing node: (\S+) \[(?:Deq|Q)uantizeLinear\]", text))
    fates = trace(build_852, build_852.layers)
    assert {f.node for f in fates} == parsed
    assert len(fates) == len(parsed) + 4
    assert all(f.status != "not traced" for f in fates)
    counts = Counter((f.op, f.status) for f in fates)
    assert counts["Q", "folded"] == text.count("ConstWeightsQuantizeFusion: Fusing ")
    assert counts["Q", "merged"] == text.count(" which duplicates (Q) ")
    assert counts["Q", "left over"] == text.count(" from QUANTIZE to kQDQ")
    assert counts["DQ", "fused"] == 2 * text.count("QuantizeDoubleInputNodes: fusing (")
    assert counts["Q", "fused"] == text.count("QuantizeDoubleInputNodes: fusing /")
    assert {strip_clone(f.name) for f in fates if f.status == "split"} == {
        "/neck/detect2/conv1/conv/_input_quantizer/QuantizeLinear",
        "/neck/detect3/conv1/conv/_input_quantizer/QuantizeLinear",
    }
    engine = {layer.name for layer in build_852.layers}
    for fate in fates:
        assert fate.status == "split" or fate.engine_layer in engine


def test_q_and_dq_of_the_rtx_log_are_found_in_its_kernels(artefacts: Path) -> None:
    build = read_build_log(artefacts / "logs" / "trtrtx17_resnet18_fp32_then_qdq.log").build
    fates = trace(build, build.layers)
    nodes = {n.name for n in build.nodes.values() if n.op in ("QuantizeLinear", "DequantizeLinear")}
    assert {f.name for f in fates} == nodes
    assert Counter(f.status for f in fates) == {"kernel": 73, "fused": 37}
    held = {layer.name: layer.nodes for layer in build.layers}
    assert all(f.name in held[f.engine_layer] for f in fates)


def test_8_0_lines_without_running_are_named_by_what_they_change(artefacts: Path) -> None:
    story = tell(read_build_log(artefacts / "logs" / "cookbook84_trtexec_result-FP16.txt").build)
    by_line = {s.line: s for s in story.steps}
    assert (by_line[273].name, by_line[273].targets[0]) == ("FCToConvTransform", "MatMul")
    assert by_line[278].name == "SqueezePushDownJoin"
    assert by_line[282].name == "SqueezePushDownFork"
    assert story.unknown_passes == ()


def test_bare_fusing_of_tensorrt_7() -> None:
    log = collect(lex(["[TensorRT] VERBOSE: Original: 12 layers", "[TensorRT] VERBOSE: Fusing (Unnamed Layer* 0) "
                       "[Convolution] with (Unnamed Layer* 1) [Activation]"]))  # fmt: skip
    step = tell(log.build).steps[0]
    assert step.targets == ("(Unnamed Layer* 0) [Convolution]", "(Unnamed Layer* 1) [Activation]")


def test_an_unknown_pass_is_kept_and_told() -> None:
    log = collect(lex(["[V] [TRT] Running: BrandNewFusion on a", "[V] [TRT] BrandNewFusion: Fusing a with b"]))
    story = tell(log.build)
    assert story.unknown_passes == ("BrandNewFusion",)
    assert story.effects == {"BrandNewFusion": 1}


def test_q_moves_past_a_dq_swap_are_named_for_their_direction() -> None:
    log = collect(
        lex(["[V] [TRT] Swapping /Reshape with /x/DequantizeLinear", "[V] [TRT] Swapping /S with /x/QuantizeLinear"])
    )
    assert [s.name for s in tell(log.build).steps] == ["VanillaSwapWithPreceedingDQ", "VanillaSwapWithFollowingQ"]
