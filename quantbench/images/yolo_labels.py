"""Labels in ultralytics' layout: `images/…/x.jpg` with `labels/…/x.txt`, one object a line."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from quantbench.errors import QuantbenchError
from quantbench.images.decode import upright_size
from quantbench.images.folder import LabelOf
from quantbench.images.truth import PictureBoxes, Truth
from quantbench.text_file import read_text

_SLACK = 0.01  # what ultralytics lets a coordinate lie outside of 0 to 1
_MOST_CLASSES = 1 << 20


def from_yolo(root: Path) -> LabelOf:
    """Boxes of the images under `root`. An image without a label file, or with an empty one, shows no object.

    Raises QuantbenchError, naming file and line, for what is no label; BadImageError for an image without a header.
    """

    def label_of(path: PurePosixPath) -> PictureBoxes:
        image = root / path
        size = upright_size(image)
        return PictureBoxes(read_boxes(label_file(image), size), size)

    return label_of


def label_file(image: Path) -> Path:
    """Label file of an image: the last folder `images` of its path becomes `labels`; beside it where there is none."""
    parts = list(Path(os.path.abspath(image)).with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts)


def read_boxes(path: Path, size: tuple[int, int]) -> Truth:
    """Objects of a label file as boxes in pixels of an image of `size` (height, width); none where it is missing.

    A line is `class cx cy w h`, or `class x y x y x y …`, an outline whose bounding box is taken; numbers but the
    class are shares of the image. A line that stands twice counts once, as in ultralytics. Raises QuantbenchError.
    """
    text = read_text(path, "labels", encoding="utf-8-sig") if os.path.lexists(path) else ""
    lines = ((number, line.split()) for number, line in enumerate(text.splitlines(), start=1))
    rows = np.array(list(_unique(_box(path, number, words) for number, words in lines if words))).reshape(-1, 5)
    boxes = np.clip(rows[:, 1:], 0.0, 1.0) * np.array([size[1], size[0]] * 2)
    return Truth(boxes, rows[:, 0].astype(np.int64))


def _unique(rows: Iterable[tuple[float, ...]]) -> Iterable[tuple[float, ...]]:
    return dict.fromkeys(rows)


def _box(path: Path, number: int, words: list[str]) -> tuple[float, ...]:
    """(class, x0, y0, x1, y1) in shares of the image."""
    try:
        label, *values = (float(word) for word in words)
    except ValueError:
        raise _broken(path, number, words, "not all of it is numbers") from None
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise _broken(path, number, words, f"{len(words)} numbers are neither a box nor an outline")
    if not (0 <= label < _MOST_CLASSES and label.is_integer()):
        raise _broken(path, number, words, f"{words[0]} is no class number")
    if not all(-_SLACK <= value <= 1 + _SLACK for value in values):
        raise _broken(path, number, words, "coordinates are shares of the image, 0 to 1")
    if len(values) == 4:
        x, y, width, height = values
        if width < 0 or height < 0:
            raise _broken(path, number, words, "width and height cannot be negative")
        return label, x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return label, min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _broken(path: Path, number: int, words: list[str], reason: str) -> QuantbenchError:
    shown = " ".join(words)
    shown = f"{shown[:57]}…" if len(shown) > 60 else shown
    return QuantbenchError(f"labels {path}, line {number}: {reason}: {shown!r}; a line is 'class cx cy w h'")
