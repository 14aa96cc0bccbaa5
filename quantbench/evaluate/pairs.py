"""One model against another on the same images, without labels: same answers, boxes found again, SQNR. Streaming."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.evaluate.boxes import detections
from quantbench.evaluate.mean_ap import greedy
from quantbench.evaluate.samples import Means
from quantbench.evaluate.samples import measured as measured_sample
from quantbench.evaluate.scores import class_map
from quantbench.evaluate.statistics import share, sqnr_db
from quantbench.evaluate.suppress import Floats
from quantbench.evaluate.task import Arrays, Task
from quantbench.records.evaluation import Measured, NotMeasurable, OutputError

CONFIDENCE = 0.25
SAME_IOU = 0.5


class Noise:
    """Energies of the reference and of what differs from it, for each output and part; `result` gives each one's SQNR.

    An output is compared where both have the same shape, floats, and a first axis that is the batch.
    """

    def __init__(self, task: Task, outputs: Sequence[str]) -> None:
        self._task, self._outputs = task, outputs
        self._energies: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
        self._reasons: dict[tuple[str, str], str] = {}

    def update(self, reference: Arrays, other: Arrays, count: int) -> None:
        """Add one batch of `count` images."""
        for index, (a, b) in enumerate(zip(reference, other, strict=False)):
            name = self._outputs[index]
            if reason := self._reason(index, a, b, count):
                self._reasons[name, ""] = reason
                continue
            for part, rows in self._parts(index, a):
                wide, theirs = (np.asarray(x[rows], np.float64).reshape(count, -1) for x in (a, b))
                # NaN and infinity come out as themselves; `sqnr_db` tells of them.
                with np.errstate(invalid="ignore", over="ignore"):
                    energies = np.stack([(wide**2).sum(axis=1), ((wide - theirs) ** 2).sum(axis=1)])
                self._energies.setdefault((name, part), []).append(energies)

    def _reason(self, index: int, a: NDArray[Any], b: NDArray[Any], count: int) -> str:
        if not np.issubdtype(a.dtype, np.floating):
            return "integers have no noise; how many are equal is counted instead"
        if a.shape != b.shape:
            return "the two models give different shapes"
        if self._task.kind == "boxes" and self._task.format in ("nms", "efficientnms") and index in self._task.outputs:
            return "rows after suppression are in no fixed order; the boxes are compared instead"
        if a.shape[:1] != (count,) and count > 1:
            return "its first axis is no batch; --batch-size 1 compares it image by image"
        return ""

    def _parts(self, index: int, a: NDArray[Any]) -> list[tuple[str, Any]]:
        task = self._task
        if task.kind != "boxes" or index not in task.outputs:
            return [("", slice(None))]
        if task.format != "yolo":
            return [("boxes" if index == task.outputs[0] else "class scores", slice(None))]
        ends = {"boxes": 4, "class scores": 4 + task.classes}
        if task.points[0]:
            ends["key points"] = ends["class scores"] + task.points[0] * task.points[1]
        if max(ends.values()) < a.shape[1]:
            ends["angles" if task.angle else "mask coefficients"] = a.shape[1]
        starts = [0, *ends.values()]
        return [(part, np.s_[:, start:end]) for (part, end), start in zip(ends.items(), starts, strict=False)]

    def result(self) -> tuple[OutputError, ...]:
        """One entry for each output and part, in order; the reason where there is nothing to compare."""
        found = [OutputError(*key, NotMeasurable(reason)) for key, reason in self._reasons.items()]
        for key, batches in self._energies.items():
            if key not in self._reasons:
                energies = np.concatenate(batches, axis=1)
                found.append(OutputError(*key, sqnr_db(energies[0], energies[1])))
        return tuple(sorted(found, key=lambda error: self._outputs.index(error.output)))

    def norms(self) -> dict[str, NDArray[np.float64]]:
        """Euclidean norms [2, samples] of the reference and of what differs from it, by the name of each output and
        part that can be compared."""
        return {
            f"{output} {part}": np.sqrt(np.concatenate(batches, axis=1))
            for (output, part), batches in self._energies.items()
            if (output, part) not in self._reasons
        }


def worst(errors: Sequence[OutputError]) -> Measured | NotMeasurable:
    """The lowest SQNR that could be measured; where none could, why."""
    found = [error.sqnr for error in errors if isinstance(error.sqnr, Measured)]
    if found:
        return min(found, key=lambda sqnr: sqnr.value)
    reasons = [f"{e.name}: {e.sqnr.reason}" for e in errors if isinstance(e.sqnr, NotMeasurable)]
    return NotMeasurable("; ".join(reasons) or "the models have no outputs")


class Answers:
    """Whether both models answer alike, by the task. Keys of `result`: agreement (of classes), boxes_kept,
    boxes_shared, point_error (mean distance in pixels), pixels_alike, equal (integer outputs).

    Boxes count from a confidence of 0.25; those of both are paired one to one, class by class, the surest first, from
    an IoU of 0.5.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._agree: list[NDArray[np.bool_]] = []
        self._boxes = np.zeros(3, np.int64)
        self._means: dict[str, list[float]] = {}

    @property
    def differing(self) -> NDArray[np.int64]:
        """Images, counted from 0, on which two classifiers answer differently."""
        return np.flatnonzero(~np.concatenate(self._agree)) if self._agree else np.zeros(0, np.int64)

    def update(self, reference: Arrays, other: Arrays, count: int, size: tuple[int, int]) -> None:
        """Add one batch."""
        task = self._task
        if task.kind == "classes":
            a, b = (outputs[task.outputs[0]].reshape(count, -1).argmax(axis=1) for outputs in (reference, other))
            self._agree.append(a == b)
        elif task.kind == "boxes":
            found = (detections(outputs, task, size, CONFIDENCE) for outputs in (reference, other))
            for ours, theirs in zip(*found, strict=True):
                self._pair(ours, theirs)
        elif task.kind == "masks":
            maps = [class_map(outputs, task) for outputs in (reference, other)]
            self._add("pixels_alike", (maps[0] == maps[1]).reshape(count, -1).mean(axis=1))
        elif task.kind == "keypoints":
            places = [key_points(outputs, task, size) for outputs in (reference, other)]
            self._add("point_error", np.linalg.norm(places[0] - places[1], axis=2).mean(axis=1))
        if task.kind != "masks":
            for a, b in zip(reference, other, strict=False):
                if a.dtype.kind in "iub" and a.shape == b.shape and a.shape[:1] == (count,) and a.size:
                    self._add("equal", (a == b).reshape(count, -1).mean(axis=1))

    def _add(self, key: str, values: NDArray[Any]) -> None:
        self._means.setdefault(key, []).extend(float(value) for value in values)

    def _pair(self, ours: Floats, theirs: Floats) -> None:
        pairs = pairs_of(ours, theirs)
        self._boxes += (len(pairs), len(ours), len(theirs))
        width = self._task.points[1]
        if self._task.points[0] and pairs:
            left, right = (
                rows[[pair[side] for pair in pairs], 6:].reshape(len(pairs), -1, width)[:, :, :2]
                for side, rows in enumerate((ours, theirs))
            )
            self._add("point_error", np.linalg.norm(left - right, axis=2).mean(axis=1).mean(keepdims=True))

    def result(self) -> dict[str, Measured]:
        """What could be counted."""
        found: dict[str, Measured] = {}
        if self._agree:
            agree = np.concatenate(self._agree)
            found["agreement"] = share(int(agree.sum()), len(agree))
        paired, ours, theirs = (int(count) for count in self._boxes)
        if ours:
            found["boxes_kept"] = share(paired, ours, "boxes")
        if theirs:
            found["boxes_shared"] = share(paired, theirs, "boxes")
        for key, values in self._means.items():
            found[key] = measured_sample(Means(np.array(values), None if key == "point_error" else (0.0, 1.0)))
        return found


def pairs_of(a: Floats, b: Floats) -> list[tuple[int, int]]:
    """Which boxes of `a` and `b` ([n, 6], by falling score) pair up: one class, IoU of at least 0.5, one to one."""
    pairs = []
    for label in np.unique(a[:, 5]):
        mine, theirs = np.flatnonzero(a[:, 5] == label), np.flatnonzero(b[:, 5] == label)
        hit, taken = greedy(a[mine, :4], b[theirs, :4])
        pairs += [(int(mine[i]), int(theirs[taken[i]])) for i in np.flatnonzero(hit[0])]
    return pairs


def key_points(outputs: Arrays, task: Task, size: tuple[int, int]) -> NDArray[np.float64]:
    """Key points [N, K, 2] in pixels of the input: the peaks of heat maps, or coordinates as the model gives them."""
    array = outputs[task.outputs[0]]
    if task.format == "maps":
        peak = array.reshape(*array.shape[:2], -1).argmax(axis=2)
        height, width = array.shape[2:]
        x, y = (peak % width + 0.5) * size[1] / width, (peak // width + 0.5) * size[0] / height
        return np.stack([x, y], axis=2)
    width = array.shape[-1] if array.ndim == 3 and array.shape[-1] in (2, 3) else 2
    return array.reshape(len(array), -1, width)[:, :, :2].astype(np.float64)
