"""Predictions against real build logs with Q/DQ: the trt852 log whole, the yolov8 log as far as it is quoted."""

from functools import cache
from pathlib import Path

import pytest
from yolov8_custom import yolov8_custom

from quantbench.inspection.logs.build_log import Build, read_build_log
from quantbench.predict.prediction import Prediction
from quantbench.predict.score import (
    LEFT_OVER,
    MERGED,
    MOVED,
    TOOK_DQS,
    TOOK_Q,
    score_log,
    statements_of,
    statements_of_log,
)
from quantbench.predict.simulate import predict
from quantbench.predict.topology import view_from_log

SEEDS = sorted((Path(__file__).parents[3] / "shared" / "seeds").glob("004_*.txt"))


@cache
def _build(path: Path) -> Build:
    return read_build_log(path).build


@pytest.fixture(scope="module")
def trt852(artefacts: Path) -> tuple[Prediction, Build]:
    build = _build(artefacts / "logs" / "trt852_qdq_yolo_verbose.log")
    return predict(view_from_log(build), version="8.5"), build


def test_trt852_topology_is_read_whole(artefacts: Path) -> None:
    path = artefacts / "logs" / "trt852_qdq_yolo_verbose.log"
    view = view_from_log(_build(path))
    assert len(view.nodes) == path.read_text().count("] Parsing node: ")
    assert view.inputs == ("input",)
    assert view.outputs == ("output",)
    assert all(t in view.producers or view.is_constant(t) or t in view.inputs
               for n in view.nodes for t in n.inputs if t)  # fmt: skip


def test_trt852_every_kind_of_statement(trt852: tuple[Prediction, Build]) -> None:
    prediction, build = trt852
    scores = score_log(prediction, build)
    assert {s.kind for s in scores} >= {TOOK_DQS, TOOK_Q, MERGED, MOVED, LEFT_OVER}
    for score in scores:
        print(f"trt852 {score.kind:45} {score.hits:3} {score.precision:.3f} {score.recall:.3f}")
        assert score.hits > 0, score.kind
        assert score.precision >= 0.95, score.wrong
        assert score.recall >= 0.95, score.missed


def test_trt852_concats_vanish_with_the_copies_that_the_log_generates(trt852: tuple[Prediction, Build]) -> None:
    prediction, build = trt852
    kinds = [event.kind for event in build.passes]
    assert prediction.in_place["concats"] == kinds.count("concat-removal") == 2
    assert prediction.in_place["copies"] == kinds.count("copy") == 2


def test_trt852_passes_run_as_often_as_logged(trt852: tuple[Prediction, Build]) -> None:
    prediction, build = trt852
    for name in ("ConstQDQInitializersFusion", "ConstWeightsQuantizeFusion", "ConstWeightsFusion", "QConvScaleFusion",
                 "GenericConvActFusion", "EltReluFusion", "ScaleActivationFusion", "ConvEltwiseSumFusion",
                 "SplitQAcrossPrecedingFanIn", "ActivationToPointwiseConversion", "QDQToCopy"):  # fmt: skip
        logged = sum(1 for e in build.passes if e.kind == "pass-run" and e.fields.get("pass") == name)
        assert sum(1 for s in prediction.steps if s.name == name) == logged > 0, name


def test_trt852_order_of_the_qdq_passes(trt852: tuple[Prediction, Build]) -> None:
    prediction, build = trt852
    names = ["EltReluFusion", "ScaleActivationFusion", "ConstWeightsQuantizeFusion", "HorizontalMergeQNodes",
             "SplitQAcrossPrecedingFanIn", "VanillaSwapWithFollowingQ", "QConvScaleFusion", "GenericConvActFusion",
             "QuantizeDoubleInputNodes", "ConstWeightsFusion", "ConvEltwiseSumFusion", "QDQToCopy"]  # fmt: skip
    logged = dict.fromkeys(str(e.fields.get("pass")) for e in build.passes if e.kind == "pass-run")
    ours = dict.fromkeys(s.name for s in prediction.steps)
    assert [n for n in logged if n in names] == names
    assert sorted(n for n in ours if n in names) == sorted(names)
    assert [n for n in ours if n in names and n not in ("EltReluFusion", "ScaleActivationFusion")] == names[2:]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda p: p.name)
def test_yolov8_log_as_far_as_it_is_quoted(seed: Path) -> None:
    """The seed quotes some lines of each pass, so a precision can only be taken over the layers that it quotes."""
    build = _build(seed)
    view, scales = yolov8_custom()
    prediction = predict(view, version="8.4", scales=scales)
    mine, true = statements_of(prediction), statements_of_log(build)
    for kind, said in true.items():
        touched = {_target(kind, s) for s in said}
        about = {s for s in mine[kind] if _target(kind, s) in touched}
        hits = len(about & said)
        print(f"yolov8 {kind:45} {hits:3} {hits / max(1, len(about)):.3f} {hits / max(1, len(said)):.3f}")
        assert said, kind
        assert hits == len(said), (kind, said - about)
        assert hits == len(about), (kind, about - said)


def _target(kind: str, statement: object) -> object:
    """The layer that a statement is about."""
    assert isinstance(statement, (tuple, str))
    return statement if kind == LEFT_OVER else statement[0]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda p: p.name)
def test_yolov8_log_quoted_layers_and_merges(seed: Path) -> None:
    build = _build(seed)
    view, scales = yolov8_custom()
    prediction = predict(view, version="8.4", scales=scales)
    merged = {frozenset((s.target, *s.others)) for s in prediction.steps if s.name == "Merging layers"}
    logged = {frozenset(map(str, layers)) for e in build.passes
              if e.kind == "merge" and isinstance(layers := e.fields["layers"], tuple)}  # fmt: skip
    print(f"yolov8 parallel convs merged {len(logged & merged)} of {len(logged)}, predicted {len(merged)}")
    assert len(logged) == 5
    assert merged == logged
    for layer in build.layers:
        if layer.type in ("CaskConvolution", "Reformat"):
            twin = next(mine for mine in prediction.layers if mine.name == layer.name)
            assert [t.dtype for t in twin.inputs] == [t.dtype for t in layer.inputs]
            assert [t.dtype for t in twin.outputs] == [t.dtype for t in layer.outputs]
