"""Boxes out of a YOLO detector's exported output: decoding and non-maximum suppression, in numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.001
NMS_IOU = 0.7
MOST_BOXES = 300
_MOST_CANDIDATES = 3000

Floats = NDArray[np.float64]


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


def _of_image(box: NDArray[Any], scores: NDArray[Any], confidence: float, iou: float) -> Floats:
    label, anchor = np.nonzero(scores > confidence)
    score = scores[label, anchor]
    # By falling score; equal scores in the order of anchors, then classes.
    order = np.lexsort((label, anchor, -score))[:_MOST_CANDIDATES]
    label, anchor, score = label[order], anchor[order], score[order]
    centre, half = box[:2, anchor].astype(np.float64), box[2:4, anchor].astype(np.float64) / 2
    found = np.concatenate([centre - half, centre + half, score[None], label[None]])
    kept: Floats = found[:, nms(found[:4], label, iou, MOST_BOXES)].T.copy()
    return kept


def nms(boxes: Floats, classes: NDArray[np.int64], iou: float, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` boxes that greedy suppression keeps, class by class.

    `boxes` [4, n] are x0, y0, x1, y1 by falling score; one goes when its IoU with a kept one of its class is above
    `iou`.
    """
    left = np.arange(boxes.shape[1])
    # Boxes of different classes are moved apart, so that one pass serves all classes.
    moved = boxes + classes * (np.ptp(boxes) + 1.0 if boxes.size else 0.0)
    area = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    kept: list[int] = []
    while len(left) and len(kept) < most:
        kept.append(int(left[0]))
        x0, y0, x1, y1 = moved[:, 0]
        own, moved, area, left = area[0], moved[:, 1:], area[1:], left[1:]
        width = np.minimum(x1, moved[2]) - np.maximum(x0, moved[0])
        height = np.minimum(y1, moved[3]) - np.maximum(y0, moved[1])
        shared = np.clip(width, 0.0, None) * np.clip(height, 0.0, None)
        stay = shared <= iou * (own + area - shared)
        if not stay.all():
            moved, area, left = moved[:, stay], area[stay], left[stay]
    return np.asarray(kept, np.int64)
