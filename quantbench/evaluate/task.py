"""What a model's outputs mean: classes, boxes, masks, key points, or plain values. Told from the model's metadata
first, then from its last operators, then from shape and values; what is only alike in shape is not taken for it."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError
from quantbench.evaluate.suppress import decoded
from quantbench.graph.suppression import Suppression
from quantbench.json_types import JsonObject
from quantbench.runnable import runnable_part, suppression_behind

Kind = Literal["classes", "boxes", "masks", "keypoints", "values"]
Arrays = Sequence[NDArray[Any]]

# Fewer scores than this are a classifier's only where the model or the labels say so: [N, 4] may be a box, a pose.
_SURELY_CLASSES = 10
# Boxes are shares of the image where no coordinate is greater, or in pixels: a little over 1 may stand out of it.
_MOST_AS_SHARE = 2.0
_PROBABILITIES = frozenset({"Softmax", "LogSoftmax"})
_ULTRALYTICS = {"detect", "segment", "pose", "obb"}


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """What a model file says of its outputs: `metadata`, class `names`, and the operator that makes each output. Where
    outputs are what a plugin for suppression reads: which two, boxes and scores (`suppressed`), and what it does."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    suppressed: tuple[int, int] = (0, 0)
    suppression: Suppression | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """`format` of boxes: yolo [N, 4 + classes + more, anchors], nms [N, M, 6], detr (boxes and logits of queries),
    efficientnms (count, boxes, scores, classes), suppressed (boxes and scores as a plugin for suppression reads them,
    which `suppression` describes; `shares`: boxes are shares of the image). `outputs`: indices of the outputs that hold
    it. `points`: key points and numbers of each behind the classes of yolo. `angle`: yolo boxes end in an angle. `why`:
    how it was told. `shape`: of the first of `outputs`."""

    kind: Kind
    format: str = ""
    outputs: tuple[int, ...] = ()
    classes: int = 0
    points: tuple[int, int] = (0, 0)
    angle: bool = False
    why: str = ""
    shape: tuple[int, ...] = ()
    suppression: Suppression | None = None
    shares: bool = False

    def to_json(self) -> JsonObject:
        """Plain data."""
        return {"kind": self.kind, "format": self.format, "outputs": list(self.outputs), "classes": self.classes,
                "why": self.why}  # fmt: skip


def facts_of(model: onnx.ModelProto) -> OutputFacts:
    """Metadata, class names (ultralytics' `names`, or `classes`) and last operators of what onnxruntime runs of an ONNX
    model (`runnable_part`), and what suppresses its boxes behind that."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    runs = runnable_part(model)
    outputs = [value.name for value in runs.graph.output]
    makers = {out: node.op_type for node in runs.graph.node for out in node.output}
    facts = OutputFacts(metadata, _names(metadata), tuple(makers.get(name, "") for name in outputs))
    if (how := suppression_behind(model)) is None:
        return facts
    return replace(facts, suppressed=(outputs.index(how.boxes), outputs.index(how.scores)), suppression=how)


def answers(model: onnx.ModelProto) -> int | None:
    """How many numbers the only output of a classifier gives an image; None where it is not so, or not known."""
    if len(model.graph.output) != 1:
        return None
    dims = [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim]
    return dims[1] if len(dims) >= 2 and dims[1] > 1 and all(d == 1 for d in dims[2:]) else None


def find_task(outputs: Arrays, facts: OutputFacts | None = None, wanted: str = "auto") -> Task:
    """The task of a model that gave `outputs` for one batch. `wanted`: auto, or the kind that the user names.

    Raises QuantbenchError where the outputs cannot be what is wanted.
    """
    task = _find(outputs, facts or OutputFacts(), wanted)
    return replace(task, shape=tuple(outputs[task.outputs[0]].shape)) if task.outputs else task


def _find(outputs: Arrays, facts: OutputFacts, wanted: str) -> Task:
    if wanted not in ("auto", *get_args(Kind)):
        raise QuantbenchError(f"--task {wanted} is none of auto, {', '.join(get_args(Kind))}")
    if wanted == "values":
        return Task("values", why="as asked")
    boxes = _boxes(outputs, facts) if wanted in ("auto", "boxes") else None
    if boxes is not None:
        return boxes
    classes = _classes(outputs, facts, sure=wanted == "classes") if wanted in ("auto", "classes") else None
    if classes is not None:
        return classes
    maps = [i for i, a in enumerate(outputs) if a.ndim == 4 and min(a.shape[2:]) > 1 and _float(a) and a.size]
    if wanted == "auto" and (masks := _masks(outputs, maps, facts)) is not None:
        return masks
    for kind in get_args(Kind):
        if wanted == kind in ("masks", "keypoints") and maps:
            return Task(kind, "maps", (maps[0],), outputs[maps[0]].shape[1], why="as asked")
    labelled = [i for i, a in enumerate(outputs) if a.ndim in (3, 4) and a.dtype.kind in "iu"]
    if wanted == "masks" and labelled:
        return Task("masks", "indices", (labelled[0],), why="as asked")
    points = [i for i, a in enumerate(outputs) if _float(a) and a.ndim in (2, 3) and a.size and a[0].size % 2 == 0]
    if wanted == "keypoints" and points:
        return Task("keypoints", "coordinates", (points[0],), why="as asked")
    if wanted != "auto":
        raise QuantbenchError(f"--task {wanted}: none of the model's outputs is such ({shown(outputs)})")
    return Task("values", why="nothing in the model says what its outputs mean; --task names it")


def _masks(outputs: Arrays, maps: list[int], facts: OutputFacts) -> Task | None:
    """The only output, where it is a class for each pixel or maps of scores, and the model says that it is: by names
    for as many classes as there are maps, or by its last operator."""
    if len(outputs) != 1:
        return None
    maker = facts.makers[0] if facts.makers else ""
    if maps and outputs[0].shape[1] > 1:
        count = outputs[0].shape[1]
        if len(facts.names) == count:
            return Task("masks", "maps", (0,), count, why=f"the model's metadata: {count} classes, a map for each")
        return (
            Task("masks", "maps", (0,), count, why=f"its last operator, {maker}") if maker in _PROBABILITIES else None
        )
    flat = outputs[0].ndim == 3 or (outputs[0].ndim == 4 and outputs[0].shape[1] == 1)
    if maker == "ArgMax" and flat and min(outputs[0].shape[-2:]) > 1:
        return Task("masks", "indices", (0,), len(facts.names), why=f"its last operator, {maker}")
    return None


def shown(outputs: Arrays) -> str:
    """Outputs in words: float32[1, 1000], …"""
    return ", ".join(f"{array.dtype}{list(array.shape)}" for array in outputs)


def _float(array: NDArray[Any]) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _boxes(outputs: Arrays, facts: OutputFacts) -> Task | None:
    if (found := _before_suppression(outputs, facts)) is not None:
        return found
    task = facts.metadata.get("task", "")
    flat = [i for i, a in enumerate(outputs) if a.ndim == 3 and _float(a) and a.size]
    if task in _ULTRALYTICS and facts.names and flat:
        return _ultralytics(outputs, flat[0], facts, task)
    return _by_values(outputs, flat, facts) or _detr(outputs, flat, facts) or _efficient_nms(outputs)


def _before_suppression(outputs: Arrays, facts: OutputFacts) -> Task | None:
    """Boxes [N, A, 4] or [N, A, 1 or C, 4] and scores [N, A, C] that a plugin reads."""
    how = facts.suppression
    if how is None:
        return None
    boxes, scores = (outputs[index] for index in facts.suppressed)
    if scores.ndim != 3 or boxes.ndim not in (3, 4) or boxes.shape[:2] != scores.shape[:2] or boxes.shape[-1] != 4:
        return None
    if boxes.ndim == 4 and boxes.shape[2] not in (1, scores.shape[2]):
        return None
    shares = bool(np.abs(decoded(boxes, how)).max(initial=0) <= _MOST_AS_SHARE)
    why = f"what {how.words} reads"
    return Task("boxes", "suppressed", facts.suppressed, scores.shape[2], why=why, suppression=how, shares=shares)


def _ultralytics(outputs: Arrays, index: int, facts: OutputFacts, task: str) -> Task | None:
    why = f"the model's metadata: task {task}, {len(facts.names)} classes"
    _, rows, columns = outputs[index].shape
    classes = len(facts.names)
    if rows < 4 + classes or (columns < rows and columns >= 6 and _selected(outputs[index])):
        return Task("boxes", "nms", (index,), classes, why=why) if columns >= 6 else None
    shape = ast.literal_eval(facts.metadata.get("kpt_shape", "(0, 0)")) if task == "pose" else (0, 0)
    return Task("boxes", "yolo", (index,), classes, (int(shape[0]), int(shape[1])), task == "obb", why)


def _by_values(outputs: Arrays, flat: list[int], facts: OutputFacts) -> Task | None:
    """YOLO's raw head, maybe with mask prototypes [N, M, h, w] beside it, or boxes after suppression [N, M, 6]."""
    others = [a for i, a in enumerate(outputs) if i not in flat]
    if len(flat) != 1 or len(others) > 1 or any(a.ndim != 4 for a in others):
        return None
    array = outputs[flat[0]]
    _, rows, columns = array.shape
    classes = rows - 4 - (others[0].shape[1] if others else 0)
    if columns == 6 and not others and _selected(array):
        count = len(facts.names) or int(array[:, :, 5].max(initial=0)) + 1
        return Task("boxes", "nms", (flat[0],), count, why="its shape and values: [N, M, 6] with scores and classes")
    if classes < 1 or columns <= rows or not _speaks_of_boxes(array, classes):
        return None
    return Task("boxes", "yolo", (flat[0],), classes, why="its shape and values, as ultralytics exports YOLO")


def _selected(array: NDArray[Any]) -> bool:
    """Whether rows are x0, y0, x1, y1, score, class."""
    score, label = array[..., 4], array[..., 5]
    right = (array[..., 2] >= array[..., 0]) & (array[..., 3] >= array[..., 1])
    whole = bool((label == np.rint(label)).all() and label.min() >= 0)
    return whole and bool(right.all() and score.min() >= 0 and score.max() <= 1 and array[..., :4].max() > 2)


def _speaks_of_boxes(array: NDArray[Any], classes: int) -> bool:
    scores = array[:, 4 : 4 + classes]
    return bool(array[:, 2:4].min() >= 0 and array[:, :4].max() > 2 and scores.min() >= 0 and scores.max() <= 1)


def _detr(outputs: Arrays, flat: list[int], facts: OutputFacts) -> Task | None:
    """Two outputs of the same queries: boxes [N, Q, 4] (centre and size, shares of the image) and logits [N, Q, C]."""
    if len(flat) != 2 or len(outputs) != 2:
        return None
    box, logits = sorted(flat, key=lambda i: outputs[i].shape[2] != 4)
    a, b = outputs[box], outputs[logits]
    if a.shape[2] != 4 or a.shape[:2] != b.shape[:2] or a.min() < 0 or a.max() > 1.001:
        return None
    classes = b.shape[2]
    # With softmax the last class is "no object", which most queries answer; with sigmoid there is none.
    nothing = len(facts.names) == classes - 1 or (not facts.names and (b.argmax(axis=2) == classes - 1).mean() > 0.5)
    why = "its shape and values: [N, Q, 4] in 0 to 1 beside [N, Q, C]"
    return Task("boxes", "detr-softmax" if nothing else "detr-sigmoid", (box, logits), classes - nothing, why=why)


def _efficient_nms(outputs: Arrays) -> Task | None:
    """TensorRT's EfficientNMS: num_dets [N, 1], boxes [N, M, 4], scores [N, M], classes [N, M]."""
    if len(outputs) != 4 or outputs[0].dtype.kind != "i" or outputs[0].shape[1:] != (1,) or outputs[1].ndim != 3:
        return None
    _, boxes, scores, labels = outputs
    if boxes.shape[2] != 4 or scores.shape != boxes.shape[:2] or labels.shape != scores.shape:
        return None
    return Task("boxes", "efficientnms", (0, 1, 2, 3), int(labels.max(initial=0)) + 1, why="outputs of EfficientNMS")


def _classes(outputs: Arrays, facts: OutputFacts, *, sure: bool) -> Task | None:
    """One vector of scores an image, [N, K] or [N, K, 1, 1], that is known to be of classes."""
    found = [i for i, a in enumerate(outputs) if is_vector(a) and a.size]
    if len(found) != 1 or (len(outputs) > 1 and not sure):
        return None
    index = found[0]
    array = outputs[index]
    flat = array.reshape(len(array), -1)
    count = flat.shape[1]
    maker = facts.makers[index] if index < len(facts.makers) else ""
    if sure:
        why = "as asked"
    elif len(facts.names) == count or facts.metadata.get("task") == "classify":
        why = "the model's metadata"
    elif maker in _PROBABILITIES:
        why = f"its last operator, {maker}"
    elif count >= _SURELY_CLASSES and not _unit_length(flat):
        why = f"its shape, {count} numbers an image; --task values says that they are no classes"
    else:
        return None
    return Task("classes", "scores", (index,), count, why=why)


def is_vector(output: NDArray[Any]) -> bool:
    """Whether an output is one vector of floats an image: [N, K] or [N, K, 1, 1] with K > 1."""
    return _float(output) and output.ndim >= 2 and output.shape[1] > 1 and int(np.prod(output.shape[2:])) == 1


def _unit_length(flat: NDArray[Any]) -> bool:
    """Embeddings are scaled to length 1; scores of classes are not (probabilities have a sum of 1 instead)."""
    return bool(flat.min() < 0) and bool(np.allclose(np.linalg.norm(flat.astype(np.float64), axis=1), 1, atol=1e-3))


def _names(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """ultralytics writes {0: 'person', 1: …} as Python text; others a list, or names with commas."""
    text = metadata.get("names") or metadata.get("classes") or ""
    if not text:
        return ()
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return tuple(part.strip() for part in text.split(",")) if "," in text else ()
    if isinstance(value, dict) and set(value) == set(range(len(value))):
        return tuple(str(value[i]) for i in range(len(value)))
    return tuple(str(name) for name in value) if isinstance(value, list | tuple) else ()
