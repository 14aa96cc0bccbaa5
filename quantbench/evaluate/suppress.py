"""Non-maximum suppression in numpy: greedy, and as a plugin of TensorRT does it."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.graph.suppression import Suppression

Floats = NDArray[np.float64]


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


def suppressed(
    boxes: NDArray[Any], scores: NDArray[Any], how: Suppression, confidence: float, scale: tuple[float, float]
) -> list[Floats]:
    """Detections of each image, float64 [k, 6] as x0, y0, x1, y1, score, class, by falling score, that the plugin would
    leave of `boxes` [N, A, 4] or [N, A, C, 4] and `scores` [N, A, C]: those over `confidence` among them.

    Coordinates are multiplied by `scale` (x, y). Which of two coordinates comes first no plugin says; it is taken as x.
    """
    how = replace(how, score=max(how.score, confidence))
    corners = decoded(boxes, how) * np.asarray(scale * 2, np.float64)
    values = np.asarray(scores, np.float64)
    with np.errstate(over="ignore"):
        values = 1 / (1 + np.exp(-values)) if how.sigmoid else values
    return [_of_image(*image, how) for image in zip(corners, values, strict=True)]


def decoded(boxes: NDArray[Any], how: Suppression) -> Floats:
    """Corners [N, A, 1 or C, 4] of the plugin's boxes, the smaller coordinate first."""
    found = np.asarray(boxes, np.float64)
    found = found[:, :, None] if found.ndim == 3 else found
    first, second = found[..., :2], found[..., 2:]
    if how.anchors is not None:
        anchors = np.asarray(how.anchors, np.float64)[:, :, None]
        base, size = anchors[..., :2], anchors[..., 2:]
        with np.errstate(over="ignore"):
            first, second = (
                (first * size + base, size * np.exp(second)) if how.centre else (first + base, second + size)
            )
    if how.centre:
        first, second = first - second / 2, first + second / 2
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)


def _of_image(corners: Floats, scores: Floats, how: Suppression) -> Floats:
    """`corners` [A, 1 or C, 4], `scores` [A, C]."""
    counted = scores > how.score
    if 0 <= how.background < scores.shape[1]:
        counted[:, how.background] = False
    label, anchor = np.nonzero(counted.T)
    score = scores[anchor, label]
    # By falling score; equal scores in the order of anchors, then classes.
    order = np.lexsort((label, anchor, -score))
    if how.each:
        rank = np.zeros(len(order), np.int64)
        for one in np.unique(label):
            own = np.flatnonzero(label[order] == one)
            rank[own] = np.arange(len(own))
        order = order[rank < how.candidates]
    else:
        order = order[: how.candidates]
    label, anchor, score = label[order], anchor[order], score[order]
    found = corners[anchor, label if corners.shape[1] > 1 else 0].T
    kept = nms(found, np.zeros_like(label) if how.agnostic else label, how.iou, how.most)
    rows: Floats = np.concatenate([found, score[None], label[None]])[:, kept].T.copy()
    return rows
