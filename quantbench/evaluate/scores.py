"""Scores of one model against labels, streaming: right answers, mAP, mIoU, a user's own metric. One class a task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError
from quantbench.evaluate.boxes import CONFIDENCE as EVERY
from quantbench.evaluate.boxes import detections
from quantbench.evaluate.mean_ap import MOST_BOXES, match
from quantbench.evaluate.samples import Hits, Matches, MeanAP, Means, Overlaps, Sample
from quantbench.evaluate.suppress import Floats
from quantbench.evaluate.task import Arrays, Task
from quantbench.images.truth import Label, MaskTruth, Truth
from quantbench.load_object import user_code

# A user's metric: outputs of one batch by name and a label an image, to a number an image [N].
Metric = Callable[[Mapping[str, NDArray[Any]], Sequence[Label]], Any]
IGNORED = 255


class Scores(Protocol):
    """Running scores; `update` takes the outputs of one batch and a label (or None) an image."""

    def update(self, outputs: Arrays, labels: Sequence[Label], size: tuple[int, int]) -> None:
        """Add one batch; `size` is the (H, W) of the model's input."""
        ...

    def samples(self) -> dict[str, Sample]:
        """Measure to what was scored; empty where no image is labelled."""
        ...


class ClassScores:
    """top1 and, from six classes on, top5. Raises QuantbenchError for a label that the model does not have."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._first: list[NDArray[np.bool_]] = []
        self._five: list[NDArray[np.bool_]] = []
        self._labels: list[NDArray[np.int64]] = []

    def update(self, outputs: Arrays, labels: Sequence[Label], size: tuple[int, int]) -> None:
        """Add one batch."""
        known = np.array([isinstance(label, int) for label in labels])
        if not known.any():
            return
        values = outputs[self._task.outputs[0]].reshape(len(labels), -1)[known]
        truth = np.array([label for label in labels if isinstance(label, int)], np.int64)
        if truth.min() < 0 or truth.max() >= values.shape[1]:
            wrong = truth[(truth < 0) | (truth >= values.shape[1])][0]
            raise QuantbenchError(
                f"labels: class {wrong} is none of the model's {values.shape[1]} classes (0 to {values.shape[1] - 1}); "
                f"give the list that it was trained with: --classes FILE"
            )
        order = np.argsort(-values, axis=1, kind="stable")[:, :5]
        hit = order == truth[:, None]
        self._first.append(hit[:, 0])
        self._labels.append(truth)
        if values.shape[1] > 5:
            self._five.append(hit.any(axis=1))

    def samples(self) -> dict[str, Sample]:
        """top1, top5."""
        if not self._first:
            return {}
        labels = np.concatenate(self._labels)
        found: dict[str, Sample] = {"top1": Hits(np.concatenate(self._first), labels)}
        if self._five:
            found["top5"] = Hits(np.concatenate(self._five), labels)
        return found


class BoxScores:
    """map (50-95) and map50, as COCO counts them; 100 boxes an image stay in memory, where it is labelled."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._truths: list[Truth] = []
        self._found: list[Floats] = []

    def update(self, outputs: Arrays, labels: Sequence[Label], size: tuple[int, int]) -> None:
        """Add one batch."""
        if not any(isinstance(label, Truth) for label in labels):
            return
        for rows, label in zip(detections(outputs, self._task, size, EVERY), labels, strict=True):
            if isinstance(label, Truth):
                if self._task.format != "nms":  # its number of classes is only what was seen
                    check_classes(label, self._task.classes)
                self._truths.append(label)
                self._found.append(rows[:MOST_BOXES])

    def samples(self) -> dict[str, Sample]:
        """map, map50; nothing where no box is labelled."""
        if not any(len(truth.classes) for truth in self._truths):
            return {}
        most = max(int(truth.classes.max(initial=0)) for truth in self._truths)
        seen = max((int(rows[:, 5].max(initial=0)) for rows in self._found), default=0)
        matches = Matches(tuple(match(self._found, self._truths, max(self._task.classes, most + 1, seen + 1))))
        return {"map": MeanAP(matches, 10), "map50": MeanAP(matches, 1)}


def check_classes(truth: Truth, classes: int, where: str = "labels") -> None:
    """Raises QuantbenchError, naming `where`, if a box is labelled with a class that the model does not have."""
    if len(truth.classes) and truth.classes.max() >= classes:
        raise QuantbenchError(
            f"{where}: class {truth.classes.max()} is none of the model's {classes} classes (0 to {classes - 1}); "
            f"give the labels that belong to this model"
        )


class MaskScores:
    """miou and pixels (share of pixels of the right class); pixels labelled 255 do not count."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._both: list[NDArray[np.int64]] = []
        self._either: list[NDArray[np.int64]] = []
        self._right: list[float] = []

    def update(self, outputs: Arrays, labels: Sequence[Label], size: tuple[int, int]) -> None:
        """Add one batch."""
        if not any(isinstance(label, MaskTruth) for label in labels):
            return
        for found, label in zip(class_map(outputs, self._task), labels, strict=True):
            if not isinstance(label, MaskTruth):
                continue
            truth = label.classes
            counted = truth != IGNORED
            mine, theirs = resized(found, truth.shape)[counted], truth[counted]
            top = max(int(mine.max(initial=0)), int(theirs.max(initial=0))) + 1
            each = np.bincount(theirs * top + mine, minlength=top * top).reshape(top, top)
            both = np.diag(each)
            self._both.append(both)
            self._either.append(each.sum(axis=0) + each.sum(axis=1) - both)
            self._right.append(float(both.sum() / max(counted.sum(), 1)))

    def samples(self) -> dict[str, Sample]:
        """miou, pixels."""
        if not self._both:
            return {}
        classes = max(len(row) for row in self._both)
        both, either = (
            np.stack([np.pad(row, (0, classes - len(row))) for row in rows]) for rows in (self._both, self._either)
        )
        return {"miou": Overlaps(both, either), "pixels": Means(np.array(self._right), (0.0, 1.0))}


def class_map(outputs: Arrays, task: Task) -> NDArray[np.int64]:
    """Class of each pixel, [N, h, w]: argmax of maps; of a single map whether it is over 0.5 (0 for logits)."""
    array = outputs[task.outputs[0]]
    if array.dtype.kind in "iu":
        return array.reshape(len(array), *array.shape[-2:]).astype(np.int64)
    if array.shape[1] > 1:
        best: NDArray[np.int64] = array.argmax(axis=1).astype(np.int64)
        return best
    level = 0.5 if array.min() >= 0 and array.max() <= 1 else 0.0
    found: NDArray[np.int64] = (array[:, 0] > level).astype(np.int64)
    return found


def resized(classes: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """`classes` [h, w] at another size, by the nearest pixel."""
    rows = (np.arange(shape[0]) * classes.shape[0] / shape[0]).astype(np.int64)
    columns = (np.arange(shape[1]) * classes.shape[1] / shape[1]).astype(np.int64)
    found: NDArray[np.int64] = classes[rows[:, None], columns]
    return found


class UserScores:
    """The user's own function on each batch, under its name."""

    def __init__(self, name: str, metric: Metric, outputs: Sequence[str]) -> None:
        self._name, self._metric, self._outputs = name, metric, outputs
        self._values: list[NDArray[np.float64]] = []

    def update(self, outputs: Arrays, labels: Sequence[Label], size: tuple[int, int]) -> None:
        """Add one batch. Raises QuantbenchError where the function gives something else than a number an image."""
        with user_code(f"--metric {self._name}"):
            values = np.asarray(self._metric(dict(zip(self._outputs, outputs, strict=True)), labels), np.float64)
        if values.shape != (len(labels),) or not np.isfinite(values).all():
            raise QuantbenchError(
                f"--metric {self._name}: gave {values.shape} numbers for {len(labels)} images, or some that are not "
                f"finite; it must return one number an image"
            )
        self._values.append(values)

    def samples(self) -> dict[str, Sample]:
        """The mean over images."""
        return {self._name: Means(np.concatenate(self._values))} if self._values else {}


def scores_for(task: Task) -> Scores | None:
    """Scores that go with a task, None where there is no measure of the task itself."""
    kinds: dict[str, Callable[[Task], Scores]] = {"classes": ClassScores, "boxes": BoxScores, "masks": MaskScores}
    return kinds[task.kind](task) if task.kind in kinds else None
