"""Sections and renderers on plain data: grouping, alignment, escaping, and the words about each compiler."""

from html.parser import HTMLParser
from typing import Any

import pytest

from quantbench.records.compiled import BareEngine, Compiled, Engine, EngineLatencies, EngineLatency
from quantbench.records.evaluation import (
    BoxFacts,
    Evaluation,
    Latency,
    LatencyPair,
    Measured,
    NotMeasurable,
    OutputError,
    Outputs,
    Sizes,
)
from quantbench.records.facts import (
    CalibrationFacts,
    DataFacts,
    Machine,
    ModelFacts,
    PlacementFacts,
    PreprocessFacts,
    Provenance,
    StageRecord,
)
from quantbench.records.prediction import Prediction
from quantbench.records.run import PtqRun
from quantbench.report import html, markdown
from quantbench.report.blocks import Bars, Cards, Section, Table, Text
from quantbench.report.figures import is_for_cpu
from quantbench.report.sections import accuracy, compiler, headline, provenance
from quantbench.report.words import by_reason, listed, size


def engine(traffic: int, int8: int, weighted: int = 20) -> Engine:
    return Engine(
        layers=40, traffic_bytes=traffic, weighted=weighted, weighted_int8=int8,
        not_int8=tuple(f"conv{i}" for i in range(weighted - int8)), quantized_but_float=(), float_between=(),
        float_between_bytes=0, conversions=(), conversion_bytes=0, engine_bytes=1_500_000,
    )  # fmt: skip


def facts(**more: Any) -> Compiled:
    known = {"backend": "tensorrt10", "version": "10.16.1", "target": "", "precision": "fp16", "shape": (1, 3, 8, 8),
             "quantization": "explicit", "seconds": 1.0, "notes": (), "int8": engine(60_000_000, 20),
             "plain": engine(100_000_000, 0)}  # fmt: skip
    return Compiled(**{**known, **more})


def timed(int8: float, plain: float | None = None) -> EngineLatencies:
    sides = {k: v and EngineLatency(median_ms=v, p90_ms=v, p99_ms=v * 1.5, calls=9)
             for k, v in (("int8", int8), ("plain", plain))}  # fmt: skip
    return EngineLatencies(**sides)


def nothing(node: str) -> str:
    return ""


@pytest.mark.parametrize(
    ("given", "words", "pays"),
    [
        (facts(), "INT8 moves 40 % fewer bytes than plain FP16 on TensorRT", True),
        (facts(plain=engine(50_000_000, 0)), "1.20 times the bytes of plain FP16 (60.0 MB against 50.0 MB)", False),
        # Where both ran, time decides, whatever the bytes.
        (facts(latency=timed(2.0, 1.0)), "2.00 times the time of plain FP16 (2.000 ms against 1.000 ms)", False),
        (facts(latency=timed(0.5, 1.0)), "INT8 is 2.00 times as fast as plain FP16 on this GPU", True),
        (facts(latency=timed(2.0)), "INT8 moves 40 % fewer bytes", True),
    ],
)  # fmt: skip
def test_whether_int8_pays_in_words(given: Compiled, words: str, pays: bool) -> None:
    assert words in compiler.verdict(given)
    assert compiler.pays_not(given) is not pays
    section = compiler.section(given, nothing)
    kinds = {block.text: block.kind for block in section.blocks if isinstance(block, Text)}
    assert kinds[compiler.verdict(given)] == ("note" if pays else "warning")


def test_only_rtx_is_said_to_requantize_apart() -> None:
    rtx = facts(backend="tensorrt-rtx", target="sm86", plain=engine(1_000, 0))
    assert "its INT8 convs write float" in markdown.render("", "", [compiler.section(rtx, nothing)])
    assert "use TensorRT 10 or 11" in compiler.summary(rtx)
    assert "its INT8 convs" not in markdown.render("", "", [compiler.section(facts(), nothing)])


def test_engine_times_stand_in_the_table() -> None:
    text = markdown.render("", "", [compiler.section(facts(latency=timed(0.5, 1.0)), nothing)])
    assert "| Latency on this GPU, p99 | 0.750 ms | 1.500 ms |" in text


def test_an_engine_without_layers_or_without_a_float_twin() -> None:
    bare = facts(backend="onnxruntime", int8=BareEngine(engine_bytes=5), plain=BareEngine(engine_bytes=7))
    assert compiler.summary(bare) == "onnxruntime 10.16.1: engine of 5 B"
    assert "| Engine | 5 B | 7 B |" in markdown.render("", "", [compiler.section(bare, nothing)])
    text = markdown.render("", "", [compiler.section(facts(plain=None), nothing)])
    assert "| Bytes moved (all inputs, outputs, constants) | 60.0 MB | - |" in text
    assert "fewer bytes" not in text


def test_float_layers_are_grouped_by_reason() -> None:
    given = facts(int8=engine(1, 11))
    kept = {"conv0": "head", "conv3": "head", "conv4": "tiny"}
    table = compiler.section(given, lambda node: kept.get(node, "")).blocks[-1]
    assert isinstance(table, Table)
    assert table.rows == (
        ("conv0, conv3", "head"),
        ("conv1, conv2, conv5, conv6, conv7, conv8", "has Q/DQ, but the compiler runs it in float"),
        ("conv4", "tiny"),
    )


def measured(value: float, count: int, unit: str = "images") -> Measured:
    return Measured(value, value - 0.01, value + 0.01, count, unit)


PROVENANCE = Provenance(command="quantbench ptq", time="2026-01-01T00:00:00+00:00", versions={"quantbench": "1"},
                        machine=Machine(system="Linux", processor="CPU", cores=2))  # fmt: skip


def detector(**outputs: Measured) -> PtqRun:
    boxes = BoxFacts(output="output0", format="yolo", why="its shape", shape=(8, 84, 8400), classes=80,
                     confidence=0.25, nms_iou=0.7, same_iou=0.5)  # fmt: skip
    evaluation = Evaluation(
        outputs=Outputs(sqnr_db=measured(30, 8), **outputs), layers=(), boxes=boxes, task="boxes",
        task_why="its shape",
        parts=(
            OutputError("output0", "boxes", measured(30, 8)),
            OutputError("output0", "class scores", NotMeasurable("the reference is zero everywhere")),
        ),
        sizes=Sizes(plain=4_000_000, qdq=4_000_000, onnxruntime=1_000_000),
    )  # fmt: skip
    prediction = Prediction(version="TensorRT 10", layers=2, int8_layers=1, weighted=2, fates={}, left_over=(),
                            reformats=0, float_bytes=0, float_weighted=(), float_outputs=(), guesses=())  # fmt: skip
    return PtqRun(
        provenance=PROVENANCE, recipe={}, model=ModelFacts(name="m", path="m.onnx", sha256="0"),
        data=DataFacts(what="train", images=8, sha256="0"), prediction=prediction, compiled=None,
        preprocess=PreprocessFacts(settings={}, words="", origin=""), calibration=CalibrationFacts(method="minmax"),
        placement=PlacementFacts(weighted=("a", "b"), quantized=("a",), kept_float={}, tensors=1, groups=1, rules={}),
        evaluated_on=DataFacts(what="val", images=8, sha256="1"), evaluation=evaluation,
    )  # fmt: skip


def test_a_detector_is_told_by_its_boxes() -> None:
    share = {"boxes_kept": measured(0.95, 1200, "boxes"), "boxes_shared": measured(0.97, 1180, "boxes")}
    text = markdown.render("", "", [accuracy.section(detector(**share))])
    assert "Output output0 [N, 84, 8400] is taken as YOLO boxes" in text
    assert "| Boxes of FP32 that INT8 finds too | 95.0 % (94.0 to 96.0) | 1,200 boxes |" in text
    assert "--labels yolo" in text
    maps = {"map_float": measured(0.4, 8), "map_int8": measured(0.38, 8),
            "map_change": measured(-0.02, 8)}  # fmt: skip
    run = detector(**share, **maps)
    text = markdown.render("", "", [headline.section(run), accuracy.section(run)])
    assert "**-2.0 points** mAP50-95, INT8 against FP32 (40.0 % to 38.0 %, 8 images)" in text
    assert "**95.0 %** of FP32's boxes found by INT8 (1,200 boxes)" in text
    assert "| Change of mAP50-95 | -2.00 points (-3.00 to -1.00) | 8 images |" in text
    assert "--labels yolo" not in text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "FP32 finds no box in these images, nor does INT8"),
        ({"boxes_shared": measured(0, 3, "boxes")}, "INT8 finds boxes where there should be none"),
        ({"boxes_kept": measured(0, 3, "boxes")}, "INT8 finds no box in these images"),
    ],
)
def test_a_detector_that_finds_nothing_is_a_warning(found: dict[str, Measured], words: str) -> None:
    blocks = accuracy.section(detector(**found)).blocks
    assert [words in b.text for b in blocks if isinstance(b, Text) and b.kind == "warning"] == [True]


def test_no_compiler_is_one_remark() -> None:
    section = compiler.section(None, nothing)
    assert "pip install tensorrt-rtx" in section.blocks[0].text


def test_words() -> None:
    assert listed(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert by_reason([]) == ()
    assert [size(n) for n in (0, 999, 1_000, 1_250_000, 3_100_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.2 MB",
        "3.1 GB",
    ]


class Cells(HTMLParser):
    """Class of each cell, row by row, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(dict(attributes).get("class") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_columns_of_figures_are_aligned_and_names_are_escaped() -> None:
    evil = '<script>alert("x")</script> a|b'
    table = Table(("", "INT8", "FP16"), ((evil, "5 MB", "160 fused"), ("b", "12 of 20", "3")))
    blocks = (table, Cards((("1", evil, ""),)), Bars((("a", 0.0, "0"),), "none"), Text(evil, "warning"))
    page = html.render("title", "sub", [Section("S", blocks)])
    assert "<script" not in page
    cells = Cells()
    cells.feed(page)
    assert cells.text.count(evil) >= 3
    # The second column holds figures alone, the third does not; the first is a label.
    assert cells.rows == [["", "n", ""], ["k", "n", ""], ["k", "n", ""]]
    assert "a\\|b | 5 MB" in markdown.render("t", "s", [Section("S", blocks)])


def test_stages_of_other_machines_are_told_apart() -> None:
    here = PROVENANCE
    there = here.model_copy(update={"machine": Machine(system="Linux", processor="Another CPU", cores=8),
                                    "versions": {"quantbench": "0"}})  # fmt: skip
    stage = StageRecord(name="x", key="k", inputs={}, outputs=(), provenance=there)
    run = detector().model_copy(update={"stages": {"calibrate": stage, "evaluate": stage.model_copy(
        update={"provenance": here})}})  # fmt: skip
    text = markdown.render("", "", [provenance.section(run)])
    assert "| calibrate | 2026-01-01T00:00:00+00:00 | 0.0 s | Another CPU, 8 cores, Linux |" in text
    assert "| calibrate | quantbench 0 |" in text
    assert "| evaluate | quantbench 1 |" in text


@pytest.mark.parametrize(("rules", "leads"), [({"weighted": 1}, False), ({"integer": 1}, True)])
def test_a_cpus_latency_heads_only_reports_of_what_is_for_a_cpu(rules: dict[str, int], leads: bool) -> None:
    """It stood among the first figures of models that TensorRT runs."""
    run = detector(boxes_kept=measured(0.95, 1200, "boxes"))
    times = LatencyPair(plain=Latency(9.0, 9.5, 9.9, 20, 1, 1), int8=Latency(3.0, 3.5, 3.9, 20, 1, 1))
    placement = run.placement.model_copy(update={"rules": rules})
    evaluation = run.evaluation.model_copy(update={"latency": times})
    run = run.model_copy(update={"evaluation": evaluation, "placement": placement})
    assert ("speed on this CPU" in markdown.render("", "", [headline.section(run)])) == leads
    assert is_for_cpu(run) == leads
