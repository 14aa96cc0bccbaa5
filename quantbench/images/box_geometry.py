"""Boxes and masks on their way through the declared preprocessing, beside the picture."""

from dataclasses import replace

import numpy as np
from PIL import Image

from quantbench.images.geometry import crop_place, letterbox_place, shortest_size
from quantbench.images.preprocess import Preprocess
from quantbench.images.truth import MaskTruth, PictureBoxes, PictureMask, Truth


def carried(label: PictureBoxes, preprocess: Preprocess) -> Truth:
    """Boxes in pixels of what `preprocess` makes of the picture, cut at its borders; those with nothing left are out.

    Coordinates run over the area (0 to width), as a resize sees it, not over pixel centres.
    """
    size, (top, left) = label.size, (0, 0)
    if preprocess.shortest is not None:
        size = shortest_size(size, preprocess.shortest)
    elif preprocess.exact is not None:
        size = preprocess.exact
    elif preprocess.letterbox is not None:
        size, (top, left) = letterbox_place(size, preprocess.letterbox)
    canvas = preprocess.letterbox or size
    scale = np.array([size[1] / label.size[1], size[0] / label.size[0]] * 2)
    if preprocess.crop is not None:
        cut = crop_place(canvas, preprocess.crop)
        canvas, (top, left) = preprocess.crop, (top - cut[0], left - cut[1])
    boxes = label.truth.boxes * scale + np.array([left, top, left, top])
    boxes = np.clip(boxes, 0.0, np.array([canvas[1], canvas[0]] * 2, np.float64))
    there = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return Truth(boxes[there], label.truth.classes[there])


def carried_mask(label: PictureMask, preprocess: Preprocess) -> MaskTruth:
    """The mask as `preprocess` would move it: nearest pixels, and 255 (does not count) where it pads."""
    steps = replace(
        preprocess, filter="nearest", pad=255, scale=1.0, mean=(0.0,), std=(1.0,), channels="GRAY", layout="NHWC",
        dtype="uint8",
    )  # fmt: skip
    return MaskTruth(steps(Image.fromarray(label.truth.classes))[:, :, 0])
