"""Predictions against the logs of TensorRT 8.6.0 (two networks) and 10.9 (RT-DETRv2), statement by statement."""

import pytest

from quantbench.predict.evidence import ELSEWHERE, SEEN
from quantbench.predict.score import (
    ACTIVATED,
    CANCELLED,
    LAYERS,
    LAYERS_AND_DTYPES,
    LAYERS_AND_REFORMATS,
    LEFT_OVER,
    MERGED,
    MOVED,
    POOLED,
    REGIONS,
    SPLIT,
    SPLIT_DQ,
    SUMMED,
    TOOK_DQS,
    TOOK_Q,
    score_log,
)
from tests.predict.real_logs import LOGS, real_log

# Statements of each kind in the logs: a kind that a log is full of must not vanish from the scores.
SAID = {
    "backbone": {TOOK_DQS: 63, TOOK_Q: 62, MERGED: 18, MOVED: 21, LEFT_OVER: 2, SPLIT: 3, SUMMED: 16, CANCELLED: 4,
                 LAYERS: 74, LAYERS_AND_DTYPES: 74, LAYERS_AND_REFORMATS: 76},
    "fuser": {TOOK_DQS: 14, TOOK_Q: 12, LEFT_OVER: 3, SPLIT: 1, LAYERS: 20, LAYERS_AND_DTYPES: 20,
              LAYERS_AND_REFORMATS: 23},
    "rtdetr": {TOOK_DQS: 57, TOOK_Q: 36, MERGED: 1, MOVED: 3, LEFT_OVER: 12, SPLIT: 4, SPLIT_DQ: 10, POOLED: 3,
               SUMMED: 8, ACTIVATED: 19, REGIONS: 2, LAYERS: 83, LAYERS_AND_DTYPES: 83, LAYERS_AND_REFORMATS: 89},
}  # fmt: skip


@pytest.mark.parametrize("name", list(LOGS))
def test_each_kind_of_statement(name: str) -> None:
    log = real_log(name)
    scores = {score.kind: score for score in score_log(log.prediction, log.build)}
    assert {kind: s.hits + len(s.missed) for kind, s in scores.items()} == SAID[name]
    for kind, score in scores.items():
        print(f"{name} {log.version} {kind:45} {score.hits:3} {score.precision:.3f} {score.recall:.3f}")
        assert score.precision >= 0.95, score.wrong
        assert score.recall >= 0.95, score.missed


@pytest.mark.parametrize("name", list(LOGS))
def test_layers_have_the_names_that_the_engine_prints(name: str) -> None:
    log = real_log(name)
    theirs = {layer.name for layer in log.build.layers}
    ours = [layer.name for layer in log.prediction.layers if layer.type != "Myelin"]
    unnamed = [x for x in ours if x not in theirs and "ForeignNode" not in x]
    assert len(unnamed) <= len(ours) // 20, unnamed


@pytest.mark.parametrize("name", list(LOGS))
def test_what_the_rules_were_drawn_from_is_marked_as_seen(name: str) -> None:
    log = real_log(name)
    for layer in log.prediction.layers:
        assert layer.attributes["confidence"] in (SEEN, ELSEWHERE), layer
    assert not log.prediction.guesses
    assert not log.prediction.version_guesses


def test_topology_of_the_10_9_log_is_read_whole() -> None:
    log = real_log("rtdetr")
    assert len(log.view.nodes) == 991
    assert log.view.inputs == ("images", "orig_target_sizes")
    assert log.view.outputs == ("labels", "boxes", "scores")


@pytest.mark.parametrize("name", ["backbone", "fuser"])
def test_int8_tensors_have_the_formats_of_the_engine(name: str) -> None:
    log = real_log(name)
    theirs = {t.name: t.format for layer in log.build.layers for t in layer.outputs if t.dtype == "INT8"}
    ours = {t.name: t.format for layer in log.prediction.layers for t in layer.outputs if t.dtype == "INT8"}
    both = [tensor for tensor in ours if tensor in theirs]
    right = sum(ours[tensor] == theirs[tensor] for tensor in both)
    print(f"{name}: formats of INT8 tensors {right} of {len(both)}")
    assert len(both) > 10
    assert right >= 0.9 * len(both)
