"""Boxes as labels are checked against the model before anything runs for long."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quantbench.calibration.ort_outputs import padded, static_batch
from quantbench.data.sources import first_image
from quantbench.errors import QuantbenchError
from quantbench.evaluate.scores import check_classes
from quantbench.evaluate.task import facts_of, find_task, shown
from quantbench.images.source import Source
from quantbench.images.truth import Label, Truth
from quantbench.images.yolo_labels import label_file
from quantbench.ort import create_session
from quantbench.ort import run as ort_run
from quantbench.runnable import runnable_part


def check_box_labels(
    model: onnx.ModelProto, input_name: str, source: Source, labels: list[Label], folder: Path, *, threads: int
) -> None:
    """Run one image through `model` and hold its output against the `labels` of `source`, the images in `folder`.

    Raises QuantbenchError where the model gives no boxes, no image is labelled with one, or a class is too many.
    """
    feed = padded({input_name: first_image(source)[None]}, static_batch(model))
    outputs: list[Any] = [
        np.asarray(array) for array in ort_run(create_session(runnable_part(model), threads=threads), None, feed)
    ]
    found = find_task(outputs, facts_of(model))
    if found.kind != "boxes":
        raise QuantbenchError(
            f"--labels yolo goes with a detector whose output is [N, 4 + classes, anchors], boxes in pixels and scores "
            f"0 to 1, as ultralytics exports YOLOv8, or [N, M, 6] after suppression, or boxes and logits of queries as "
            f"DETR gives them; this model gives {shown(outputs)}"
        )
    files = [label_file(folder / source.name(index)) for index in range(len(source))]
    boxes = 0
    for file, label in zip(files, labels, strict=True):
        if isinstance(label, Truth):
            if found.format != "nms":  # how many classes there are, such rows do not say
                check_classes(label, found.classes, f"labels {file}")
            boxes += len(label.classes)
    if not boxes:
        there = sum(file.exists() for file in files)
        what = f"{there} of {len(files)} label files exist, all empty" if there else f"{files[0]} does not exist"
        raise QuantbenchError(
            f"--labels yolo: none of the {len(files)} images in {folder} is labelled with a box; {what} (the last "
            f"folder 'images' of a path becomes 'labels'; without one, x.txt lies beside x.jpg)"
        )
