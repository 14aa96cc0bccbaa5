"""Labels beside the images: masks, a CSV table, COCO's annotations."""

import csv
import io
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from quantbench.errors import QuantbenchError
from quantbench.images.decode import upright_size
from quantbench.images.folder import LabelOf
from quantbench.images.truth import MaskTruth, PictureBoxes, PictureLabel, PictureMask, Truth
from quantbench.text_file import read_object, read_text

_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")


def from_masks(root: Path) -> LabelOf:
    """The mask of each image under `root`: the last folder `images` of its path becomes `masks`, or it lies beside as
    `x_mask.png`. Pixels are class numbers, also in a palette PNG; 255 does not count.

    Raises QuantbenchError for an image without one, and for one that is not of one channel.
    """

    def label_of(path: PurePosixPath) -> PictureMask:
        file = _mask_file(root / path)
        try:
            with Image.open(file) as picture:
                if picture.mode not in ("L", "P", "1", "I;16", "I"):
                    raise QuantbenchError(f"mask {file} has mode {picture.mode}; it must have one channel, the classes")
                classes = np.asarray(picture).astype(np.int64)
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise QuantbenchError(f"cannot read mask {file}: {error}") from error
        if classes.max(initial=0) > 255:
            raise QuantbenchError(f"mask {file} has class {classes.max()}; there can be 0 to 254, and 255 for none")
        return PictureMask(MaskTruth(classes.astype(np.uint8)))

    return label_of


def _mask_file(image: Path) -> Path:
    parts = list(image.absolute().parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    beside = [image.with_name(f"{image.stem}_mask{suffix}") for suffix in _MASK_SUFFIXES]
    if places:
        parts[places[-1]] = "masks"
        beside = [Path(*parts).with_suffix(suffix) for suffix in _MASK_SUFFIXES] + beside
    for file in beside:
        if file.is_file():
            return file
    raise QuantbenchError(f"image {image} has no mask; {beside[0]} does not exist")


def from_csv(table: Path, classes: Sequence[str]) -> LabelOf:
    """Labels of a table with the columns image (path relative to the folder) and label (class number, or one of
    `classes`); a header is optional. Images that it does not name have no label. Raises QuantbenchError."""
    try:
        text = read_text(table, "labels", encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise QuantbenchError(f"cannot read labels {table}: {error}") from error
    index = {name: number for number, name in enumerate(classes)}
    labels: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise QuantbenchError(f"{table}, line {number}: {reprlib.repr(row[0])} is not 'image,label'")
        label = row[1].strip()
        if label.isdecimal() and len(label) < 10:
            labels[row[0].strip()] = int(label)
        elif label in index:
            labels[row[0].strip()] = index[label]
        elif number > 1:
            known = "give the list with --classes FILE" if not classes else f"the classes are {_some(classes)}"
            raise QuantbenchError(
                f"{table}, line {number}: {reprlib.repr(label)} is neither a class number nor a class; {known}"
            )
    if not labels:
        raise QuantbenchError(f"{table} holds no line 'image,label'")

    def label_of(path: PurePosixPath) -> int | None:
        return labels.get(str(path), labels.get(path.name))

    return label_of


def from_coco(annotations: Path, root: Path, classes: Sequence[str]) -> LabelOf:
    """Boxes of COCO annotations, found by file name. A category's class is its place in `classes` where they have its
    name, else its place among the sorted category ids. Crowds are left out. Raises QuantbenchError."""
    data = read_object(annotations, "labels")
    try:
        numbers = _coco_classes(data["categories"], classes)
        names = {image["id"]: str(image["file_name"]) for image in data["images"]}
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in names.values()}
        for entry in data["annotations"]:
            if not entry.get("iscrowd"):
                x, y, w, h = (float(v) for v in entry["bbox"])
                found[names[entry["image_id"]]].append((numbers[entry["category_id"]], x, y, x + w, y + h))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise QuantbenchError(f"{annotations} holds no COCO annotations: {error!r}") from error
    by_name = {PurePosixPath(name).name: rows for name, rows in found.items()}

    def label_of(path: PurePosixPath) -> PictureLabel:
        rows = found.get(str(path), by_name.get(path.name))
        if rows is None:
            return None
        table = np.array(rows, np.float64).reshape(-1, 5)
        return PictureBoxes(Truth(table[:, 1:], table[:, 0].astype(np.int64)), upright_size(root / path))

    return label_of


def _coco_classes(categories: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> dict[int, int]:
    index = {name: number for number, name in enumerate(classes)}
    if index and all(category["name"] in index for category in categories):
        return {int(category["id"]): index[category["name"]] for category in categories}
    return {int(number): place for place, number in enumerate(sorted(category["id"] for category in categories))}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + ("…" if len(names) > 8 else "")
