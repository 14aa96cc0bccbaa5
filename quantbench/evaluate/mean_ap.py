"""COCO's mAP from boxes, with bootstrap intervals over images, also for the difference of two models.

Matching and the 101-point average follow pycocotools (all areas, at most 100 boxes an image); the test compares with
faster-coco-eval. Kept apart from it because an interval needs hundreds of resamples, and matching once is enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantbench.images.truth import Truth
from quantbench.records.evaluation import Measured

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
MOST_BOXES = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """All detections of a class, by falling score: `image` [n]. `right` [k] are the places of those that hit a truth at
    any IoU threshold, `hit` [10, k] at which; `truths` [images] counts the labelled boxes."""

    image: NDArray[np.int64]
    right: NDArray[np.int64]
    hit: NDArray[np.bool_]
    truths: NDArray[np.int64]


def match(detections: Sequence[Floats], truths: Sequence[Truth], classes: int) -> list[ClassMatches]:
    """Match every image's detections [k, 6] (x0, y0, x1, y1, score, class) to its truth, class by class."""
    images: list[list[NDArray[np.int64]]] = [[] for _ in range(classes)]
    hits: list[list[NDArray[np.bool_]]] = [[] for _ in range(classes)]
    scores: list[list[Floats]] = [[] for _ in range(classes)]
    counts = np.zeros((classes, len(truths)), np.int64)
    for index, (found, truth) in enumerate(zip(detections, truths, strict=True)):
        found = found[np.argsort(-found[:, 4], kind="stable")][:MOST_BOXES]
        counts[:, index] = np.bincount(truth.classes, minlength=classes)
        for label in np.unique(found[:, 5]).astype(np.int64):
            own = found[found[:, 5] == label]
            images[label].append(np.full(len(own), index))
            hits[label].append(greedy(own[:, :4], truth.boxes[truth.classes == label])[0])
            scores[label].append(own[:, 4])
    matches = []
    for label in range(classes):
        if not scores[label]:
            none = np.zeros(0, np.int64)
            matches.append(ClassMatches(none, none, np.zeros((len(IOU_THRESHOLDS), 0), np.bool_), counts[label]))
            continue
        order = np.argsort(-np.concatenate(scores[label]), kind="stable")
        hit = np.concatenate(hits[label], axis=1)[:, order]
        right = np.flatnonzero(hit.any(axis=0))
        matches.append(ClassMatches(np.concatenate(images[label])[order], right, hit[:, right], counts[label]))
    return matches


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes [n, 4] and [m, 4]: [n, m]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - shared
    found: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def greedy(boxes: Floats, wanted: Floats) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Hits [10, n]: each box in order takes the free truth that it overlaps most, if by the threshold; and which one
    it takes at the lowest threshold [n], -1 for none."""
    hit = np.zeros((len(IOU_THRESHOLDS), len(boxes)), np.bool_)
    taken = np.full(len(boxes), -1, np.int64)
    if not len(wanted):
        return hit, taken
    overlaps = iou(boxes, wanted)
    free = np.ones((len(IOU_THRESHOLDS), len(wanted)), np.bool_)
    rows = np.arange(len(IOU_THRESHOLDS))
    for i in np.flatnonzero(overlaps.max(axis=1) >= IOU_THRESHOLDS[0]):
        left = np.where(free, overlaps[i], -1.0)
        best = left.argmax(axis=1)
        hit[:, i] = left[rows, best] >= IOU_THRESHOLDS
        free[rows[hit[:, i]], best[hit[:, i]]] = False
        taken[i] = best[0] if hit[0, i] else -1
    return hit, taken


def average_precision(matches: Sequence[ClassMatches], weights: NDArray[np.int64] | None = None) -> Floats:
    """AP at each of the 10 IoU thresholds, mean over classes that occur. `weights` [images] counts each image so
    many times (a bootstrap resample)."""
    values = []
    for m in matches:
        w = np.ones(len(m.truths), np.int64) if weights is None else weights
        positives = int((m.truths * w).sum())
        if positives:
            values.append(_class_ap(m, w[m.image], positives))
    return np.mean(values, axis=0) if values else np.zeros(len(IOU_THRESHOLDS))


def _class_ap(m: ClassMatches, w: NDArray[np.int64], positives: int) -> Floats:
    if not len(m.right):
        return np.zeros(len(IOU_THRESHOLDS))
    # Recall rises, and precision peaks, at right detections alone; the others only count as seen.
    true = np.cumsum(m.hit * w[m.right], axis=1)
    seen = np.maximum(np.cumsum(w)[m.right], 1)
    precision = np.maximum.accumulate((true / seen)[:, ::-1], axis=1)[:, ::-1]
    # Of so many right ones, true / positives is a recall of the 101; the rows, moved apart, are one sorted line.
    wanted = np.searchsorted(np.arange(positives + 1) / positives, _RECALLS, side="left")
    apart = (positives + 1) * np.arange(len(IOU_THRESHOLDS))[:, None]
    places = np.searchsorted((true + apart).reshape(-1), (wanted + apart).reshape(-1), side="left")
    at = places.reshape(len(IOU_THRESHOLDS), -1) - len(m.right) * np.arange(len(IOU_THRESHOLDS))[:, None]
    reached = at < len(m.right)
    rows = np.arange(len(IOU_THRESHOLDS))[:, None]
    found: Floats = np.where(reached, precision[rows, np.minimum(at, len(m.right) - 1)], 0.0).mean(axis=1)
    return found


def mean_ap(matches: Sequence[ClassMatches]) -> float:
    """mAP50-95, 0 to 1."""
    return float(average_precision(matches).mean())


def intervals(
    models: Mapping[str, Sequence[ClassMatches]], base: str, resamples: int = 300, seed: int = 0
) -> dict[str, dict[str, Measured]]:
    """For each model its `map` (mAP50-95) and `map50`, and as `difference` and `difference50` what lies between it and
    `base`, over the same resamples of images (paired)."""
    images = len(next(iter(models.values()))[0].truths)
    rng = np.random.default_rng(seed)
    draws: dict[str, list[Floats]] = {name: [] for name in models}
    for _ in range(resamples):
        weights = np.bincount(rng.integers(0, images, images), minlength=images)
        for name, matches in models.items():
            draws[name].append(_both(average_precision(matches, weights)))
    whole = {name: _both(average_precision(matches)) for name, matches in models.items()}
    drawn = {name: np.stack(values) for name, values in draws.items()}
    found: dict[str, dict[str, Measured]] = {}
    for name in models:
        found[name] = {}
        for column, ending in enumerate(("", "50")):
            value, mine = whole[name][column], drawn[name][:, column]
            found[name][f"map{ending}"] = _measured(value, mine, images)
            found[name][f"difference{ending}"] = _measured(
                value - whole[base][column], mine - drawn[base][:, column], images
            )
    return found


def _both(precision: Floats) -> Floats:
    """mAP50-95 and mAP50 from the AP at each threshold."""
    return np.array([precision.mean(), precision[0]])


def _measured(value: float, draws: Floats, images: int) -> Measured:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Measured(float(value), float(low), float(high), images)
