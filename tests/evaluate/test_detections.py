"""Detectors compared: what is taken as boxes and what is not, boxes found again, mAP, by hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.scenes import draw_scene
from quantbench.errors import QuantbenchError
from quantbench.evaluate.detections import BoxComparison, box_output, paired
from quantbench.evaluate.outputs import compare_outputs
from quantbench.images.truth import Truth
from quantbench.ort import create_session

MODEL = Path(__file__).parents[1] / "data" / "models" / "yolov8n-scenes.onnx"


@pytest.fixture(scope="module")
def real() -> tuple[NDArray[np.float32], list[Truth]]:
    """Output of the trained detector on eight scenes, and their truth."""
    drawn = [draw_scene(0, "test", i) for i in range(8)]
    images = np.stack([scene.image for scene in drawn]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    output: NDArray[np.float32] = create_session(MODEL).run(None, {"images": images})[0]
    return output, [Truth(scene.boxes, scene.classes) for scene in drawn]


def test_a_real_detector_is_taken_as_boxes(real: tuple[NDArray[np.float32], list[Truth]]) -> None:
    found = box_output([real[0]])
    assert found is not None
    assert (found.index, found.classes) == (0, 10)
    # Segmentation: 32 coefficients after the classes, prototypes beside.
    rng = np.random.default_rng(0)
    wide = np.concatenate([real[0], rng.normal(size=(8, 32, 2100)).astype(np.float32)], axis=1)
    prototypes = np.zeros((8, 32, 80, 80), np.float32)
    for outputs, index in (([wide, prototypes], 0), ([prototypes, wide], 1)):
        found = box_output(outputs)
        assert found is not None
        assert (found.index, found.classes) == (index, 10)


def test_what_is_not_taken_as_boxes(real: tuple[NDArray[np.float32], list[Truth]]) -> None:
    output = real[0]
    rng = np.random.default_rng(0)
    softmax = rng.dirichlet(np.ones(6625), (2, 40)).astype(np.float32)  # a text recognizer: [N, time, characters]
    logits = output.copy()
    logits[:, 4:] -= 0.1
    others = {
        "classifier": [rng.normal(size=(2, 1000)).astype(np.float32)],
        "map": [np.ones((2, 1, 64, 64), np.float32)],
        "recognizer": [softmax],
        "tokens": [rng.normal(size=(2, 197, 768)).astype(np.float32)],
        "logits for scores": [logits],
        "coefficients without prototypes": [np.concatenate([output, output * 0 - 1], axis=1)],
        "boxes last": [output.transpose(0, 2, 1)],
        "shares for pixels": [np.concatenate([output[:, :4] / 320, output[:, 4:]], axis=1)],
        "integers": [output.astype(np.int64)],
        "two": [output, output],
        "no class": [output[:, :4]],
    }
    assert {name for name, outputs in others.items() if box_output(outputs) is not None} == set()


def test_pairs_are_one_to_one_and_of_one_class() -> None:
    a = np.array([[0, 0, 10, 10, 0.9, 1], [0, 0, 10, 8, 0.8, 1], [50, 50, 60, 60, 0.7, 2]], np.float64)
    b = np.array([[0, 0, 10, 9, 0.9, 1], [50, 50, 60, 60, 0.8, 3], [50, 50, 60, 56, 0.3, 2]], np.float64)
    assert paired(a, b) == paired(b, a) == 2
    assert paired(a, b[:2]) == 1
    b[2, 3] = 54  # IoU 0.4
    assert paired(a, b) == 1
    assert paired(a, b[:0]) == paired(a[:0], b) == 0


def _output(rows: list[tuple[float, ...]]) -> NDArray[np.float32]:
    """One image: [1, 6, 100] with the given anchors (cx, cy, w, h, scores of two classes), the rest empty."""
    output = np.zeros((1, 6, 100), np.float32)
    for anchor, row in enumerate(rows):
        output[0, :, anchor] = row
    return output


def test_shares_and_map_by_hand() -> None:
    a = _output([(20, 20, 20, 20, 0.9, 0), (60, 60, 20, 20, 0, 0.8), (90, 20, 10, 10, 0.5, 0)])
    # The first stays, the second falls below 0.25, the third moves away.
    b = _output([(20, 20, 20, 20, 0.8, 0), (60, 60, 20, 20, 0, 0.2), (99, 20, 10, 10, 0.5, 0)])
    truth = Truth(np.array([[10.0, 10, 30, 30], [50, 50, 70, 70], [85, 15, 95, 25]]), np.array([0, 1, 0]))
    comparison = BoxComparison()
    for _ in range(4):
        comparison.update([a], [b], [truth])
    found = comparison.result()
    assert (found["boxes_kept"].value, found["boxes_kept"].count) == (pytest.approx(1 / 3), 12)
    assert (found["boxes_shared"].value, found["boxes_shared"].count) == (0.5, 8)
    assert (found["boxes_kept"].count, found["boxes_kept"].unit) == (12, "boxes")
    assert found["map50_float"].value == pytest.approx(1.0)
    # Class 0: half of the boxes found, all before the first mistake: 51 of 101 recalls. Class 1: found, however unsure.
    assert found["map50_int8"].value == pytest.approx((51 / 101 + 1) / 2)
    assert found["map_change"].value == pytest.approx(found["map_int8"].value - found["map_float"].value)
    assert found["map_change"].high < 0
    assert (found["map_change"].count, found["map_change"].unit) == (4, "images")


def test_without_labels_there_is_no_map(real: tuple[NDArray[np.float32], list[Truth]]) -> None:
    output, truths = real
    comparison = BoxComparison()
    feeds = [({"x": output}, [None] * 8)]
    same = compare_outputs(lambda feed: [feed["x"]], lambda feed: [feed["x"]], feeds, boxes=comparison)
    assert set(same) == {"sqnr_db", "boxes_kept", "boxes_shared"}
    assert same["boxes_kept"].value == same["boxes_shared"].value == 1.0
    labelled = BoxComparison()
    labelled.update([output], [output], truths)
    assert labelled.result()["boxes_kept"] == same["boxes_kept"]
    assert labelled.result()["map_float"].value > 0.6


def test_no_boxes_and_no_detector() -> None:
    empty, one = _output([(20, 20, 20, 20, 0.1, 0)]), _output([(20, 20, 20, 20, 0.9, 0)])
    comparison = BoxComparison()
    comparison.update([empty], [empty], [Truth(np.zeros((0, 4)), np.zeros(0, np.int64))])
    assert comparison.result() == {}
    comparison.update([empty], [one], [None])
    assert set(comparison.result()) == {"boxes_shared"}
    classifier = BoxComparison()
    classifier.update([np.ones((1, 10), np.float32)], [np.ones((1, 10), np.float32)], [3])
    assert classifier.output is None
    assert classifier.result() == {}


def test_a_class_that_the_model_lacks() -> None:
    output = _output([(20, 20, 20, 20, 0.9, 0)])
    with pytest.raises(QuantbenchError, match="class 2 is none of the model's 2 classes"):
        BoxComparison().update([output], [output], [Truth(np.array([[0.0, 0, 9, 9]]), np.array([2]))])
