"""The scene generator: seeded, split-clean, and the same truth in YOLO and COCO form."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.scenes import SceneOptions, digits_of, draw_crops, draw_scene, write_split


def test_scene_depends_on_seed_split_and_index_alone() -> None:
    first, again = draw_scene(3, "train", 5), draw_scene(3, "train", 5)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.image, draw_scene(4, "train", 5).image)
    assert not np.array_equal(first.image, draw_scene(3, "test", 5).image)


def test_digits_of_splits_are_disjoint() -> None:
    seen: set[bytes] = set()
    for split, expected in (("train", 4000), ("val", 400), ("test", 600)):
        pixels, labels = digits_of(split)
        own = {p.tobytes() for p in pixels}
        assert not own & seen
        assert expected * 0.98 <= len(pixels) <= expected
        assert set(labels.tolist()) == set(range(10))
        seen |= own


def test_yolo_and_coco_say_the_same(tmp_path: Path) -> None:
    write_split(tmp_path, "val", 6, seed=1)
    coco = json.loads((tmp_path / "annotations/instances_val.json").read_text())
    assert len({a["id"] for a in coco["annotations"]}) == len(coco["annotations"])
    for image in coco["images"]:
        stem = image["file_name"][:-4]
        rows = [line.split() for line in (tmp_path / f"labels/val/{stem}.txt").read_text().splitlines()]
        boxes = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        assert Image.open(tmp_path / "images/val" / image["file_name"]).size == (320, 320)
        assert 1 <= len(rows) == len(boxes) <= 7
        for (label, *shares), truth in zip(rows, boxes, strict=True):
            cx, cy, w, h = (float(v) * 320 for v in shares)
            assert int(label) == truth["category_id"]
            assert np.allclose([cx - w / 2, cy - h / 2, w, h], truth["bbox"], atol=1e-2)
            assert 0 <= truth["bbox"][0] <= truth["bbox"][0] + truth["bbox"][2] <= 320


def test_number_of_processes_changes_nothing() -> None:
    options = SceneOptions(size=64, most_digits=1, smallest=26, largest=56)
    one, two = (draw_crops(0, "test", 4, options, workers) for workers in (1, 2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
