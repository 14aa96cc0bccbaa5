"""Suppression as plugins do it, against ONNX's operator in onnxruntime and by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantbench.evaluate.suppress import decoded, suppressed
from quantbench.evaluate.task import OutputFacts, find_task
from quantbench.graph.suppression import Suppression, suppression
from quantbench.ort import create_session

HOW = Suppression("nms", "EfficientNMS_TRT", "boxes", "scores", iou=0.5, score=0.3, most=1000)


def by_onnx(boxes: NDArray[np.float32], scores: NDArray[np.float32], *, centre: bool) -> set[tuple[int, int]]:
    """(class, anchor) of what NonMaxSuppression keeps of one image's boxes [A, 4] and scores [A, C]."""
    values = {"most": np.asarray([1000]), "iou": np.float32([0.5]), "score": np.float32([0.3])}
    node = helper.make_node("NonMaxSuppression", ["b", "s", *values], ["kept"], center_point_box=int(centre))
    graph = helper.make_graph(
        [node], "nms", [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("b", "s")],
        [helper.make_tensor_value_info("kept", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in values.items()],
    )  # fmt: skip
    session = create_session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    (kept,) = session.run(None, {"b": boxes[None], "s": scores.T[None]})
    return {(int(c), int(a)) for _, c, a in kept}


def drawn(seed: int, *, centre: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    first, second = rng.uniform(0, 60, (80, 2)), rng.uniform(5, 40, (80, 2))
    boxes = np.hstack([first, second if centre else first + second])
    return boxes.astype(np.float32), rng.uniform(0, 1, (80, 4)).astype(np.float32)


def places(rows: NDArray[np.float64], scores: NDArray[np.float32]) -> set[tuple[int, int]]:
    """(class, anchor) of each row, found by its score."""
    return {(int(row[5]), int(np.abs(scores[:, int(row[5])] - row[4]).argmin())) for row in rows}


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_boxes_are_left_as_onnxruntime_leaves(seed: int, centre: bool) -> None:
    boxes, scores = drawn(seed, centre=centre)
    how = replace(HOW, centre=centre)
    (rows,) = suppressed(boxes[None], scores[None], how, 0.0, (1.0, 1.0))
    wanted = by_onnx(boxes, scores, centre=centre)
    assert places(rows, scores) == wanted
    assert len(rows) == len(wanted)
    assert (np.diff(rows[:, 4]) <= 0).all()
    # Logits, and a box for each class.
    logits = np.log(scores) - np.log1p(-scores)
    apart = np.repeat(boxes[:, None], 4, axis=1)
    (again,) = suppressed(apart[None], logits[None], replace(how, sigmoid=True), 0.0, (1.0, 1.0))
    np.testing.assert_allclose(again, rows, atol=1e-5)


def test_background_agnostic_most_and_scale() -> None:
    boxes, scores = drawn(7, centre=False)
    (rows,) = suppressed(boxes[None], scores[None], HOW, 0.0, (1.0, 1.0))
    (without,) = suppressed(boxes[None], scores[None], replace(HOW, background=2), 0.0, (1.0, 1.0))
    np.testing.assert_array_equal(without, rows[rows[:, 5] != 2])
    (few,) = suppressed(boxes[None], scores[None], replace(HOW, most=5), 0.0, (2.0, 3.0))
    np.testing.assert_allclose(few, rows[:5] * (2, 3, 2, 3, 1, 1))
    (sure,) = suppressed(boxes[None], scores[None], HOW, 0.9, (1.0, 1.0))
    assert (sure[:, 4] > 0.9).all()
    (any_class,) = suppressed(boxes[None], scores[None], replace(HOW, agnostic=True), 0.0, (1.0, 1.0))
    flat = by_onnx(np.repeat(boxes, 4, axis=0), scores.reshape(-1, 1), centre=False)
    assert len(any_class) == len(flat) < len(rows)
    (each,) = suppressed(boxes[None], scores[None], replace(HOW, each=True, candidates=1), 0.0, (1.0, 1.0))
    np.testing.assert_array_equal(np.sort(each[:, 5]), np.arange(4))
    np.testing.assert_allclose(np.sort(each[:, 4]), np.sort(scores.max(axis=0)))


def test_offsets_from_anchors_are_decoded() -> None:
    """By the formulas of efficientNMSInference.cuh, worked out by hand."""
    anchors = np.float32([[[10, 20, 4, 8]]])
    centre = replace(HOW, centre=True, anchors=anchors)
    offsets = np.float32([[[0.5, -0.25, 0, np.log(2)]]])
    np.testing.assert_allclose(decoded(offsets, centre)[0, 0, 0], [10, 10, 14, 26], rtol=1e-6)
    corners = replace(HOW, anchors=np.float32([[[10, 20, 14, 28]]]))
    np.testing.assert_allclose(decoded(np.float32([[[1, 2, -1, 3]]]), corners)[0, 0, 0], [11, 22, 13, 31])
    np.testing.assert_allclose(decoded(np.float32([[[9, 5, 1, 7]]]), HOW)[0, 0, 0], [1, 5, 9, 7])  # swapped corners


def node(op: str, inputs: tuple[str, ...] = ("b", "s"), **said: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), ["n"], name="last", **said)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (node("EfficientNMS_TRT", score_threshold=0.25, iou_threshold=0.5, max_output_boxes=7, background_class=0,
              score_activation=1, class_agnostic=1, box_coding=1),
         {"most": 7, "background": 0, "sigmoid": True, "agnostic": True, "centre": True}),
        (node("trt.plugins::YOLO_NMS_TRT", score_threshold=0.25, iou_threshold=0.5, max_output_boxes=[9]), {"most": 9}),
        (node("BatchedNMSDynamic_TRT", scoreThreshold=0.25, iouThreshold=0.5, topK=300, keepTopK=8,
              backgroundLabelId=-1, isNormalized=0), {"most": 8, "candidates": 300, "each": True}),
        (node("TRTBatchedNMS", score_threshold=0.25, iou_threshold=0.5, topk=-1, keep_topk=8, background_label_id=3),
         {"most": 8, "each": True, "background": 3}),
        (node("EfficientRotatedNMS_TRT", score_threshold=0.25, iou_threshold=0.5), None),
        (node("SomeNMS_TRT", threshold=0.2), None),
        (node("DCNv2_TRT"), None),
        (node("EfficientNMS_TRT", ("b", "s", "computed"), score_threshold=0.25, iou_threshold=0.5), None),
    ],
)  # fmt: skip
def test_plugins_say_the_same_by_names_of_their_own(made: onnx.NodeProto, wanted: dict[str, Any] | None) -> None:
    found = suppression(helper.make_model(helper.make_graph([made], "g", [], [])), made)
    if wanted is None:
        assert found is None
        return
    plain = Suppression("last", made.op_type.rpartition("::")[2], "b", "s", 0.5, 0.25)
    assert found == replace(plain, **wanted)


def test_outputs_that_do_not_fit_are_no_boxes() -> None:
    facts = OutputFacts(suppressed=(0, 1), suppression=HOW)
    boxes, scores = np.ones((1, 30, 4), np.float32), np.full((1, 30, 3), 0.5, np.float32)
    assert find_task([boxes, scores], facts).format == "suppressed"
    for wrong in (boxes[:, :20], boxes[..., :3], boxes[:, :, None].repeat(2, axis=2)):
        assert find_task([wrong, scores], facts).format != "suppressed"
