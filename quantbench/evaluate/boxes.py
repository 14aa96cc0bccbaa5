"""Boxes out of a detector's exported outputs: decoding and non-maximum suppression, in numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.evaluate.suppress import Floats, nms, suppressed
from quantbench.evaluate.task import Task

CONFIDENCE = 0.001
NMS_IOU = 0.7
MOST_BOXES = 300
_MOST_CANDIDATES = 3000


def detections(
    outputs: Sequence[NDArray[Any]], task: Task, size: tuple[int, int], confidence: float = CONFIDENCE
) -> list[Floats]:
    """Detections of each image by any `Task` of kind boxes, as `decode` gives them; `size` is the input's (H, W).

    Columns behind the sixth are key points, where the task has some. Of a box with an angle the upright box around it
    is taken, so two of them are compared a little too kindly.
    """
    arrays = [np.asarray(outputs[index]) for index in task.outputs]
    if task.format == "yolo":
        return [_of_image(_upright(a, task), a[4 : 4 + task.classes], confidence, extra=_points(a, task))
                for a in arrays[0]]  # fmt: skip
    if task.format == "nms":
        return [_sorted(rows[:, :6], confidence) for rows in arrays[0]]
    if task.format == "efficientnms":
        counts, boxes, scores, labels = arrays
        return [
            _sorted(np.column_stack([b, s, c])[: int(n[0])], confidence)
            for n, b, s, c in zip(counts, boxes, scores, labels, strict=True)
        ]
    if task.format == "suppressed" and task.suppression is not None:
        sides = (float(size[1]), float(size[0])) if task.shares else (1.0, 1.0)
        return suppressed(arrays[0], arrays[1], task.suppression, confidence, sides)
    scale = np.array([size[1], size[0]] * 2, np.float64)
    return [
        _of_queries(box * scale, logits, softmax=task.format == "detr-softmax", confidence=confidence)
        for box, logits in zip(arrays[0].astype(np.float64), arrays[1].astype(np.float64), strict=True)
    ]


def _upright(image: NDArray[Any], task: Task) -> NDArray[Any]:
    box = image[:4]
    if not task.angle:
        return box
    cos, sin = np.abs(np.cos(image[-1])), np.abs(np.sin(image[-1]))
    return np.stack([box[0], box[1], box[2] * cos + box[3] * sin, box[2] * sin + box[3] * cos])


def _points(image: NDArray[Any], task: Task) -> NDArray[Any]:
    first = 4 + task.classes
    return image[first : first + task.points[0] * task.points[1]]


def _sorted(rows: NDArray[Any], confidence: float) -> Floats:
    rows = rows[rows[:, 4] > confidence].astype(np.float64)
    found: Floats = rows[np.argsort(-rows[:, 4], kind="stable")]
    return found


def _of_queries(box: Floats, logits: Floats, *, softmax: bool, confidence: float) -> Floats:
    """Each query's classes over `confidence`; no suppression, which such models do without. Logits may be shares."""
    if softmax:
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = (shares / shares.sum(axis=1, keepdims=True))[:, :-1]
    else:
        scores = logits if logits.min() >= 0 and logits.max() <= 1 else 1 / (1 + np.exp(-logits))
    query, label = np.nonzero(scores > confidence)
    score, half = scores[query, label], box[query, 2:] / 2
    rows = np.column_stack([box[query, :2] - half, box[query, :2] + half, score, label])
    found: Floats = rows[np.lexsort((label, query, -score))][:MOST_BOXES]
    return found


def decode(
    output: NDArray[Any], confidence: float = CONFIDENCE, iou: float = NMS_IOU, classes: int | None = None
) -> list[Floats]:
    """Detections of each image, float64 [k, 6] as x0, y0, x1, y1, score, class, by falling score.

    `output` is [n, 4 + classes, anchors]: centre, size (pixels) and class scores 0..1, as ultralytics exports it;
    rows after `classes` (mask coefficients) are left out. An anchor may give several classes; suppression is within a
    class (thresholds: ultralytics' validator).
    """
    end = None if classes is None else 4 + classes
    return [_of_image(image[:4], image[4:end], confidence, iou) for image in output]


def _of_image(
    box: NDArray[Any],
    scores: NDArray[Any],
    confidence: float,
    iou: float = NMS_IOU,
    *,
    extra: NDArray[Any] | None = None,
) -> Floats:
    label, anchor = np.nonzero(scores > confidence)
    score = scores[label, anchor]
    # By falling score; equal scores in the order of anchors, then classes.
    order = np.lexsort((label, anchor, -score))[:_MOST_CANDIDATES]
    label, anchor, score = label[order], anchor[order], score[order]
    centre, half = box[:2, anchor].astype(np.float64), box[2:4, anchor].astype(np.float64) / 2
    found = np.concatenate([centre - half, centre + half, score[None], label[None]])
    if extra is not None and len(extra):
        found = np.concatenate([found, extra[:, anchor]])
    kept: Floats = found[:, nms(found[:4], label, iou, MOST_BOXES)].T.copy()
    return kept
