"""Our mAP against faster-coco-eval on boxes of every kind: right, shifted, doubled, of the wrong class, missing."""

import numpy as np
import pytest

from quantbench.evaluate.mean_ap import average_precision, intervals, match, mean_ap
from quantbench.images.truth import Truth


def _case(seed: int, images: int) -> tuple[list[np.ndarray], list[Truth]]:
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        n = int(rng.integers(0, 6))
        corner = rng.uniform(0, 200, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 100, (n, 2))], axis=1)
        classes = rng.integers(0, 3, n)
        truths.append(Truth(boxes, classes))
        kept = np.repeat(np.arange(n), rng.integers(0, 3, n))
        shifted = boxes[kept] + rng.normal(0, 4, (len(kept), 4))
        labels = np.where(rng.random(len(kept)) < 0.9, classes[kept], rng.integers(0, 3, len(kept)))
        noise = np.concatenate([c := rng.uniform(0, 200, (3, 2)), c + 30], axis=1)
        rows = np.concatenate([shifted, noise])
        scores = rng.uniform(0, 1, len(rows))
        found.append(np.column_stack([rows, scores, np.concatenate([labels, rng.integers(0, 3, 3)])]))
    return found, truths


@pytest.mark.parametrize("seed", range(4))
def test_equals_faster_coco_eval(seed: int) -> None:
    from faster_coco_eval import COCO, COCOeval_faster

    found, truths = _case(seed, 40)
    annotations, results = [], []
    for i, (rows, truth) in enumerate(zip(found, truths, strict=True)):
        for box, label in zip(truth.boxes, truth.classes, strict=True):
            w, h = box[2:] - box[:2]
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": int(label), "iscrowd": 0,
                                "bbox": [*box[:2], w, h], "area": w * h})  # fmt: skip
        for x0, y0, x1, y1, score, label in rows:
            results.append({"image_id": i, "category_id": int(label), "bbox": [x0, y0, x1 - x0, y1 - y0],
                            "score": score})  # fmt: skip
    coco = COCO({"images": [{"id": i, "width": 300, "height": 300} for i in range(40)], "annotations": annotations,
                 "categories": [{"id": i, "name": str(i)} for i in range(3)]})  # fmt: skip
    theirs = COCOeval_faster(coco, coco.loadRes(results), "bbox", print_function=lambda *a: None)
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    matches = match(found, truths, 3)
    # A recall that is a hundredth exactly may round to either side of the 101 points: one point of one class at one
    # threshold is 1 / (101 * 3), a tenth of that in the mean.
    assert mean_ap(matches) == pytest.approx(theirs.stats[0], abs=4e-4)
    assert average_precision(matches)[0] == pytest.approx(theirs.stats[1], abs=4e-3)


def test_intervals_are_paired() -> None:
    found, truths = _case(9, 30)
    matches = match(found, truths, 3)
    result = intervals({"a": matches, "b": matches}, "a", resamples=20)
    assert result["b"]["difference"].low == result["b"]["difference"].high == 0.0
    assert result["a"]["map"].low < result["a"]["map"].value < result["a"]["map"].high
    assert result["a"]["map50"].value == average_precision(matches)[0] > result["a"]["map"].value
    worse = intervals(
        {"a": matches, "b": match([rows[: 9 * (i % 2)] for i, rows in enumerate(found)], truths, 3)}, "a", resamples=20
    )
    assert worse["b"]["difference50"].value < worse["b"]["difference50"].high < 0.0
