"""Float against INT8 detector on the same images: boxes found again, and mAP where boxes are labelled. Streaming."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError
from quantbench.evaluate.boxes import CONFIDENCE as EVERY
from quantbench.evaluate.boxes import NMS_IOU, Floats, decode
from quantbench.evaluate.mean_ap import MOST_BOXES, greedy, intervals, match
from quantbench.evaluate.statistics import share
from quantbench.images.truth import Label, Truth
from quantbench.records.evaluation import BoxFacts, Measured

CONFIDENCE = 0.25
SAME_IOU = 0.5


@dataclass(frozen=True, slots=True)
class BoxOutput:
    """A model's output `index`, [N, 4 + classes + coefficients, anchors] as ultralytics exports YOLO detectors."""

    index: int
    classes: int
    shape: tuple[int, ...]

    def facts(self, output: str) -> BoxFacts:
        """What the report says of it; `output` is its name."""
        return BoxFacts(
            output=output, classes=self.classes, shape=self.shape, confidence=CONFIDENCE, nms_iou=NMS_IOU,
            same_iou=SAME_IOU,
        )  # fmt: skip


def box_output(outputs: Sequence[NDArray[Any]]) -> BoxOutput | None:
    """Which of a model's outputs holds YOLO boxes, if one does.

    It is the only float one of three axes, [N, 4 + C, A] with A > 4 + C, and may have mask prototypes [N, M, h, w]
    beside it, whose M coefficients then follow the classes. Its values must be what such a model says: sizes not
    negative, coordinates in pixels (not all within 0 to 1), class scores within 0 to 1.
    """
    flat = [i for i, a in enumerate(outputs) if a.ndim == 3 and np.issubdtype(a.dtype, np.floating)]
    others = [a for i, a in enumerate(outputs) if i not in flat]
    if len(flat) != 1 or len(others) > 1 or any(a.ndim != 4 for a in others):
        return None
    array = outputs[flat[0]]
    _, rows, anchors = array.shape
    classes = rows - 4 - (others[0].shape[1] if others else 0)
    if classes < 1 or anchors <= rows or not _speaks_of_boxes(array, classes):
        return None
    return BoxOutput(flat[0], classes, array.shape)


def _speaks_of_boxes(array: NDArray[Any], classes: int) -> bool:
    scores = array[:, 4 : 4 + classes]
    return bool(array[:, 2:4].min() >= 0 and array[:, :4].max() > 2 and scores.min() >= 0 and scores.max() <= 1)


class BoxComparison:
    """Running comparison of detectors; `update` takes one batch, `result` says what was found so far.

    Nothing is compared where the first batch's float output is not taken as boxes (see `box_output`): then `output` is
    None. Boxes count from a confidence of 0.25 after suppression at IoU 0.7; those of both models are paired one to
    one, class by class, the surest first, from an IoU of 0.5. Kept in memory are 100 boxes an image and model, where
    the image is labelled.
    """

    def __init__(self) -> None:
        self.output: BoxOutput | None = None
        self._seen = False
        self._paired = self._float = self._int8 = 0
        self._truths: list[Truth] = []
        self._found: dict[str, list[Floats]] = {"float": [], "int8": []}

    def update(
        self, reference: Sequence[NDArray[Any]], quantized: Sequence[NDArray[Any]], labels: Sequence[Label]
    ) -> None:
        """Add one batch: outputs of both models and a label an image. Raises QuantbenchError for a class too many."""
        if not self._seen:
            self.output, self._seen = box_output(reference), True
        if self.output is None:
            return
        index, classes = self.output.index, self.output.classes
        # Only mAP asks for the many boxes that nobody would show.
        least = EVERY if any(isinstance(label, Truth) for label in labels) else CONFIDENCE
        rows = (decode(outputs[index], least, classes=classes) for outputs in (reference, quantized))
        for a, b, label in zip(*rows, labels, strict=True):
            sure, theirs = a[a[:, 4] >= CONFIDENCE], b[b[:, 4] >= CONFIDENCE]
            self._float += len(sure)
            self._int8 += len(theirs)
            self._paired += paired(sure, theirs)
            if isinstance(label, Truth):
                check_classes(label, classes)
                self._truths.append(label)
                self._found["float"].append(a[:MOST_BOXES])
                self._found["int8"].append(b[:MOST_BOXES])

    def result(self) -> dict[str, Measured]:
        """Keys: boxes_kept (share of the float model's boxes), boxes_shared (of INT8's); with labels map_float,
        map_int8, map_change and the same of map50. What has nothing to count is left out."""
        found = {}
        if self._float:
            found["boxes_kept"] = share(self._paired, self._float, "boxes")
        if self._int8:
            found["boxes_shared"] = share(self._paired, self._int8, "boxes")
        if self.output is not None and any(len(truth.classes) for truth in self._truths):
            matches = {name: match(rows, self._truths, self.output.classes) for name, rows in self._found.items()}
            measured = intervals(matches, "float")
            for name in ("map", "map50"):
                found[f"{name}_float"], found[f"{name}_int8"] = (measured[model][name] for model in ("float", "int8"))
                found[f"{name}_change"] = measured["int8"][name.replace("map", "difference")]
        return found


def paired(a: Floats, b: Floats) -> int:
    """How many boxes of `a` and `b` ([n, 6], by falling score) pair up: one class, IoU of at least 0.5, one to one."""
    return sum(int(greedy(a[a[:, 5] == label, :4], b[b[:, 5] == label, :4])[0].sum()) for label in np.unique(a[:, 5]))


def check_classes(truth: Truth, classes: int, where: str = "labels") -> None:
    """Raises QuantbenchError, naming `where`, if a box is labelled with a class that the model does not have."""
    if len(truth.classes) and truth.classes.max() >= classes:
        raise QuantbenchError(
            f"{where}: class {truth.classes.max()} is none of the model's {classes} classes (0 to {classes - 1}); "
            f"give the labels that belong to this model"
        )
