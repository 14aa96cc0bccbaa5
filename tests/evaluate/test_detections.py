"""Detectors compared: what is taken as boxes and what is not, boxes found again, mAP, by hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.scenes import draw_scene
from quantbench.errors import QuantbenchError
from quantbench.evaluate.evaluator import Evaluator, Subject
from quantbench.evaluate.outputs import measures_of
from quantbench.evaluate.pairs import pairs_of
from quantbench.evaluate.task import OutputFacts, Task, find_task
from quantbench.images.truth import Truth
from quantbench.ort import create_session
from quantbench.records.evaluation import Measured

MODEL = Path(__file__).parents[1] / "data" / "models" / "digit-detector.onnx"


@pytest.fixture(scope="module")
def real() -> tuple[NDArray[np.float32], list[Truth]]:
    """Output of the trained detector on eight scenes, and their truth."""
    drawn = [draw_scene(0, "test", i) for i in range(8)]
    images = np.stack([scene.image for scene in drawn]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    output: NDArray[np.float32] = create_session(MODEL).run(None, {"images": images})[0]
    return output, [Truth(scene.boxes, scene.classes) for scene in drawn]


def box_output(outputs: list[NDArray[np.float32]], facts: OutputFacts | None = None) -> Task | None:
    """The task, if it is boxes."""
    task = find_task(outputs, facts)
    return task if task.kind == "boxes" else None


def comparison(facts: OutputFacts | None = None) -> Evaluator:
    """Of two models, whose outputs the test hands in."""
    return Evaluator([Subject(name, lambda feed: [], facts or OutputFacts()) for name in ("float", "int8")])


def result(evaluator: Evaluator) -> dict[str, Measured]:
    """Figures by the names of run.json, less the SQNR."""
    return {name: value for name, value in measures_of(evaluator.result()).items() if name != "sqnr_db"}


def paired(a: NDArray[np.float64], b: NDArray[np.float64]) -> int:
    """How many boxes pair up."""
    return len(pairs_of(a, b))


def test_a_real_detector_is_taken_as_boxes(real: tuple[NDArray[np.float32], list[Truth]]) -> None:
    found = box_output([real[0]])
    assert found is not None
    assert (found.outputs, found.classes) == ((0,), 10)
    # Segmentation: 32 coefficients after the classes, prototypes beside.
    rng = np.random.default_rng(0)
    wide = np.concatenate([real[0], rng.normal(size=(8, 32, 2000)).astype(np.float32)], axis=1)
    prototypes = np.zeros((8, 32, 80, 80), np.float32)
    for outputs, index in (([wide, prototypes], 0), ([prototypes, wide], 1)):
        found = box_output(outputs)
        assert found is not None
        assert (found.outputs, found.classes) == ((index,), 10)


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
    both = comparison()
    for _ in range(4):
        both.update([[a], [b]], [truth], (100, 100))
    found = result(both)
    assert (found["boxes_kept"].value, found["boxes_kept"].count) == (pytest.approx(1 / 3), 12)
    assert (found["boxes_shared"].value, found["boxes_shared"].count) == (0.5, 8)
    assert found["boxes_kept"].unit == "boxes"
    assert found["map50_float"].value == pytest.approx(1.0)
    # Class 0: half of the boxes found, all before the first mistake: 51 of 101 recalls. Class 1: found, however unsure.
    assert found["map50_int8"].value == pytest.approx((51 / 101 + 1) / 2)
    assert found["map_change"].value == pytest.approx(found["map_int8"].value - found["map_float"].value)
    # Four times the same image: no resample differs, which is no proof for other images.
    assert found["map_change"].low < found["map_change"].value < found["map_change"].high
    assert (found["map_change"].count, found["map_change"].unit) == (4, "images")


def test_without_labels_there_is_no_map(real: tuple[NDArray[np.float32], list[Truth]]) -> None:
    output, truths = real
    both = comparison()
    both.update([[output], [output]], [None] * 8, (320, 320))
    same = measures_of(both.result())
    assert set(same) == {"boxes_kept", "boxes_shared"}  # equal to the last bit: no SQNR
    assert same["boxes_kept"].value == same["boxes_shared"].value == 1.0
    labelled = comparison()
    labelled.update([[output], [output]], truths, (320, 320))
    assert result(labelled)["boxes_kept"] == same["boxes_kept"]
    assert result(labelled)["map_float"].value > 0.6
    # The same boxes on eight images are not a proof for all others.
    change = result(labelled)["map_change"]
    assert change.low < 0.0 < change.high


def test_no_boxes_and_no_detector() -> None:
    empty, one = _output([(20, 20, 20, 20, 0.1, 0)]), _output([(20, 20, 20, 20, 0.9, 0)])
    both = comparison()
    both.update([[empty], [empty]], [Truth(np.zeros((0, 4)), np.zeros(0, np.int64))], (100, 100))
    assert result(both) == {}
    both.update([[empty], [one]], [None], (100, 100))
    assert set(result(both)) == {"boxes_shared"}
    classifier = comparison()
    classifier.update([[np.ones((1, 10), np.float32)]] * 2, [3], (8, 8))
    assert classifier.result().task.kind == "classes"


def test_a_class_that_the_model_lacks() -> None:
    output = _output([(20, 20, 20, 20, 0.9, 0)])
    with pytest.raises(QuantbenchError, match="class 2 is none of the model's 2 classes"):
        comparison().update([[output]] * 2, [Truth(np.array([[0.0, 0, 9, 9]]), np.array([2]))], (100, 100))


def test_sqnr_tells_boxes_from_scores() -> None:
    """Coordinates in hundreds of pixels must not hide that the scores are ruined."""
    a = _output([(50, 50, 80, 80, 0.9, 0), (20, 20, 9, 9, 0, 0.8)])
    b = a.copy()
    b[:, 4:] *= 0.5
    b[:, :4] += 0.01 * (b[:, :4] > 0)
    both = comparison()
    both.update([[a], [b]], [None], (100, 100))
    errors = {error.part: error.sqnr.value for error in both.result().models[1].errors}
    assert errors["class scores"] == pytest.approx(6.02, abs=0.01)
    assert errors["boxes"] > 60
    assert measures_of(both.result())["sqnr_db"].value == errors["class scores"]


@pytest.mark.parametrize(("task", "extra"), [("pose", 51), ("obb", 1)])
def test_key_points_and_angles_are_no_class_scores(task: str, extra: int) -> None:
    """Outputs that are equal but for noise have the same boxes; without the metadata angles would pass for scores."""
    rng = np.random.default_rng(0)
    output = np.zeros((2, 5 + extra, 100), np.float32)
    output[:, :4] = rng.uniform(20, 90, (2, 4, 100))
    output[:, 4] = rng.uniform(0, 1, (2, 100))
    output[:, 5:] = rng.uniform(0, 1 if task == "obb" else 300, (2, extra, 100))
    metadata = {"task": task, "names": "{0: 'thing'}", "kpt_shape": "[17, 3]"}
    both = comparison(OutputFacts(metadata, ("thing",)))
    both.update([[output], [output + 1e-6]], [None, None], (100, 100))
    found = both.result()
    assert (found.task.classes, found.task.angle) == (1, task == "obb")
    measures = measures_of(found)
    assert measures["boxes_kept"].value == 1.0
    parts = {error.part for error in found.models[1].errors}
    assert parts == {"boxes", "class scores", "angles" if task == "obb" else "key points"}
    if task == "pose":
        assert measures["point_error"].value < 1e-4


def test_boxes_after_suppression_and_of_queries_give_the_same_map(
    real: tuple[NDArray[np.float32], list[Truth]],
) -> None:
    from quantbench.evaluate.boxes import decode

    output, truths = real
    rows = np.zeros((8, 100, 6), np.float32)
    boxes, logits = np.full((8, 100, 4), 0.5, np.float32), np.full((8, 100, 11), -9.0, np.float32)
    logits[:, :, 10] = 9
    for image, found in enumerate(decode(output)):
        best = found[:100]
        rows[image, : len(best)] = best
        centre, wide = (best[:, :2] + best[:, 2:4]) / 2, best[:, 2:4] - best[:, :2]
        boxes[image, : len(best)] = np.clip(np.hstack([centre, wide]) / 320, 0, 1)
        share = np.clip(best[:, 4], 1e-6, 1 - 1e-6)
        logits[image, np.arange(len(best)), best[:, 5].astype(int)] = 9 + np.log(share / (1 - share))
    maps = {}
    for name, outputs in {"raw": [output], "nms": [rows], "detr": [boxes, logits]}.items():
        both = comparison()
        both.update([outputs, outputs], truths, (320, 320))
        assert both.task is not None
        assert both.task.kind == "boxes", name
        maps[name] = result(both)["map_float"].value
    assert maps["nms"] == pytest.approx(maps["raw"], abs=0.01)
    assert maps["detr"] == pytest.approx(maps["raw"], abs=0.02)


@pytest.mark.parametrize("shape", [(0, 10), (0, 8, 100), (1, 0, 6), (0, 3, 8, 8)])
def test_outputs_without_a_value_say_nothing_of_the_task(shape: tuple[int, ...]) -> None:
    assert find_task([np.zeros(shape, np.float32)]).kind == "values"
