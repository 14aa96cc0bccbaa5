"""What an image is labelled with: a class, boxes, or a class for each pixel."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Truth:
    """Boxes of one image: `boxes` [n, 4] as x0, y0, x1, y1 in pixels, `classes` [n].

    The pixels are those of the image that the model gets.
    """

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PictureBoxes:
    """Boxes of a picture before preprocessing, in its own pixels; `size` is the upright picture's (height, width)."""

    truth: Truth
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class MaskTruth:
    """Class of each pixel of one image, `classes` [H, W] uint8; 255 does not count."""

    classes: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PictureMask:
    """A mask before preprocessing, of the upright picture's size."""

    truth: MaskTruth


Label = int | Truth | MaskTruth | None
PictureLabel = int | PictureBoxes | PictureMask | None


def labels_sha256(labels: Iterable[Label]) -> str:
    """Hash of labels in their order (hexadecimal)."""
    digest = hashlib.sha256()
    for label in labels:
        if isinstance(label, Truth):
            digest.update(f"{len(label.classes)} boxes\n".encode())
            digest.update(np.ascontiguousarray(label.classes, np.int64).tobytes())
            digest.update(np.ascontiguousarray(label.boxes, np.float64).tobytes())
        elif isinstance(label, MaskTruth):
            digest.update(f"mask {label.classes.shape}\n".encode())
            digest.update(np.ascontiguousarray(label.classes, np.uint8).tobytes())
        else:
            digest.update(f"{label}\n".encode())
    return digest.hexdigest()
