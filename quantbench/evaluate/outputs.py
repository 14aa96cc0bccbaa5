"""Float against INT8 on the same images: an evaluation of two models, and its figures by the names of run.json."""

from collections.abc import Callable, Iterable, Sequence

from quantbench.calibration.ort_outputs import Feed
from quantbench.evaluate.boxes import NMS_IOU
from quantbench.evaluate.evaluator import Evaluation, Run, Subject, evaluate
from quantbench.evaluate.pairs import CONFIDENCE, SAME_IOU
from quantbench.evaluate.task import OutputFacts, Task
from quantbench.images.truth import Label
from quantbench.records.evaluation import BoxFacts, Measured

FLOAT, INT8 = "float", "int8"


def compare_outputs(
    reference: Run,
    quantized: Run,
    batches: Iterable[tuple[Feed, Sequence[Label]]],
    *,
    facts: OutputFacts | None = None,
    outputs: Sequence[str] = (),
    at_a_time: int = 1,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Run both models over all `batches` of (feed, labels), `at_a_time` of them side by side. `facts` and `outputs` are
    the float model's.

    Raises QuantbenchError where models, labels and task do not fit.
    """
    known = facts or OutputFacts()
    subjects = [Subject(name, run, known, tuple(outputs)) for name, run in ((FLOAT, reference), (INT8, quantized))]
    return evaluate(subjects, batches, at_a_time=at_a_time, on_batch=on_batch)


def measures_of(evaluation: Evaluation, index: int = 1) -> dict[str, Measured]:
    """The first model (float) and the one at `index` (int8): top1_float, top1_int8, top1_change, and so on for each
    measure of the task; agreement, boxes_kept and what else compares the two; sqnr_db, the worst of all outputs and
    parts. What was not measurable is left out."""
    plain, int8 = evaluation.models[0], evaluation.models[index]
    found: dict[str, Measured] = {}
    if isinstance(int8.sqnr, Measured):
        found["sqnr_db"] = int8.sqnr
    found |= int8.against
    for name, value in int8.measures.items():
        found[f"{name}_float"], found[f"{name}_int8"] = plain.measures[name], value
        if (change := evaluation.pair(plain.name, int8.name, name)) is not None:
            found[f"{name}_change"] = change.measured
    return found


def box_facts(task: Task, outputs: Sequence[str]) -> BoxFacts | None:
    """How the boxes of a detector were read; None for other tasks."""
    if task.kind != "boxes":
        return None
    how = task.suppression
    return BoxFacts(
        output=outputs[task.outputs[0]],
        format=task.format,
        why=task.why,
        classes=task.classes,
        shape=task.shape,
        confidence=max(CONFIDENCE, how.score) if how is not None else CONFIDENCE,
        nms_iou=how.iou if how is not None else NMS_IOU,
        same_iou=SAME_IOU,
    )
