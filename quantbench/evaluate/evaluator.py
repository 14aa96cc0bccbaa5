"""Any number of models on the same images: each against the labels, each against the first, and any two in pairs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed
from quantbench.errors import QuantbenchError
from quantbench.evaluate.int8_agreement import Int8Agreement
from quantbench.evaluate.pairs import Answers, Noise, worst
from quantbench.evaluate.samples import Difference, Sample, difference, measured
from quantbench.evaluate.scores import Metric, Scores, UserScores, scores_for
from quantbench.evaluate.task import Arrays, OutputFacts, Task, find_task, shown
from quantbench.images.truth import Label, MaskTruth
from quantbench.json_types import JsonObject
from quantbench.records.evaluation import Measured, NotMeasurable, OutputError
from quantbench.side_by_side import in_order

Run = Callable[[Feed], Arrays]
_MOST_DIFFERING = 64


@dataclass(frozen=True)
class Subject:
    """A model to evaluate: its name, how to run it, what its file says of its outputs, and their names."""

    name: str
    run: Run
    facts: OutputFacts
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What the user asks for: a task (auto: told from the model) and a metric of their own with its name."""

    task: str = "auto"
    metric: Metric | None = None
    metric_name: str = ""


@dataclass(frozen=True)
class ModelScores:
    """`measures`: against labels (top1, top5, map, map50, miou, pixels, the user's). `against`: against the first model
    (agreement, boxes_kept, boxes_shared, point_error, pixels_alike, equal). `errors`: SQNR of each output and part.
    `differing`: images, counted from 0, that are answered differently from the first."""

    name: str
    measures: Mapping[str, Measured]
    by_class: Mapping[str, Mapping[int, tuple[float, int]]]
    against: Mapping[str, Measured]
    errors: tuple[OutputError, ...]
    differing: tuple[int, ...]

    @property
    def sqnr(self) -> Measured | NotMeasurable:
        """The worst of `errors`."""
        return worst(self.errors)


@dataclass(frozen=True)
class Pair:
    """`second` minus `first` in one measure."""

    first: str
    second: str
    measure: str
    difference: Difference


@dataclass(frozen=True)
class Evaluation:
    """All that `evaluate` found. `names`: of classes, where the model says them. `arithmetic`: by model, how far
    onnxruntime's INT8 is from our own, where that was asked for."""

    task: Task
    images: int
    names: tuple[str, ...]
    models: tuple[ModelScores, ...]
    pairs: tuple[Pair, ...]
    arithmetic: Mapping[str, Int8Agreement] = field(default_factory=dict)

    def pair(self, first: str, second: str, measure: str) -> Difference | None:
        """The difference of two models, if it was measured."""
        found = (p.difference for p in self.pairs if (p.first, p.second, p.measure) == (first, second, measure))
        return next(found, None)

    def to_json(self) -> JsonObject:
        """Plain data."""
        return {
            "task": self.task.to_json(), "images": self.images, "classes": list(self.names),
            "models": [
                {"name": m.name, "measures": {k: asdict(v) for k, v in m.measures.items()},
                 "against_first": {k: asdict(v) for k, v in m.against.items()},
                 "sqnr": [asdict(e) for e in m.errors],
                 "by_class": {k: {str(c): {"value": v, "count": n} for c, (v, n) in rows.items()}
                              for k, rows in m.by_class.items()},
                 "differing_images": list(m.differing)}
                for m in self.models
            ],
            "pairs": [
                {"first": p.first, "second": p.second, "measure": p.measure, **asdict(p.difference.measured),
                 "p": p.difference.p, "differs": p.difference.real}
                for p in self.pairs
            ],
            "int8_arithmetic": {name: asdict(found) for name, found in self.arithmetic.items()},
        }  # fmt: skip


class Evaluator:
    """Running evaluation; `update` takes the outputs of one batch of all models, `result` says what was found."""

    def __init__(self, subjects: Sequence[Subject], wanted: Wanted | None = None) -> None:
        self._subjects, self._wanted = tuple(subjects), wanted or Wanted()
        self._tasks: tuple[Task, ...] = ()
        self._scores: list[list[Scores]] = []
        self._noise: list[Noise] = []
        self._answers: list[Answers] = []
        self._images = 0

    @property
    def task(self) -> Task | None:
        """The first model's task, once a batch was seen."""
        return self._tasks[0] if self._tasks else None

    def update(self, outputs: Sequence[Arrays], labels: Sequence[Label], size: tuple[int, int]) -> None:
        """Add one batch: outputs of each model, a label (or None) an image, the (H, W) of the input.

        Raises QuantbenchError where labels and model do not fit.
        """
        if not self._tasks:
            self._begin(outputs, labels)
        for model, scores in zip(outputs, self._scores, strict=True):
            for score in scores:
                score.update(model, labels, size)
        for model, noise, answers in zip(outputs[1:], self._noise, self._answers, strict=True):
            noise.update(outputs[0], model, len(labels))
            answers.update(outputs[0], model, len(labels), size)
        self._images += len(labels)

    def _begin(self, outputs: Sequence[Arrays], labels: Sequence[Label]) -> None:
        wanted = self._wanted
        if wanted.task == "auto" and any(isinstance(label, MaskTruth) for label in labels):
            wanted = replace(wanted, task="masks")
        tasks = [find_task(o, s.facts, wanted.task) for o, s in zip(outputs, self._subjects, strict=True)]
        first = tasks[0]
        for index, (task, subject) in enumerate(zip(tasks, self._subjects, strict=True)):
            alike = [a.shape[1:] for a in outputs[index]] == [a.shape[1:] for a in outputs[0]]
            # What FP32 says of boxes, a ruined INT8 model may no longer say.
            tasks[index] = first if alike else task
            if tasks[index].kind != first.kind:
                raise QuantbenchError(
                    f"{subject.name} gives {shown(outputs[index])}, {self._subjects[0].name} {shown(outputs[0])}: they "
                    f"do not do the same task"
                )
        self._tasks = tuple(tasks)
        names = [
            subject.outputs or tuple(f"output {i}" for i in range(len(own)))
            for subject, own in zip(self._subjects, outputs, strict=True)
        ]
        for task, own in zip(tasks, names, strict=True):
            scores = scores_for(task)
            user = [UserScores(wanted.metric_name, wanted.metric, own)] if wanted.metric is not None else []
            self._scores.append([*([scores] if scores is not None else []), *user])
        self._noise = [Noise(first, names[0]) for _ in tasks[1:]]
        self._answers = [Answers(task) for task in tasks[1:]]

    def result(self) -> Evaluation:
        """Everything that the images allow."""
        samples = [{k: v for score in scores for k, v in score.samples().items()} for scores in self._scores]
        models = tuple(self._model(index, own) for index, own in enumerate(samples))
        pairs = tuple(
            Pair(self._subjects[i].name, self._subjects[j].name, measure, difference(samples[i][measure], second))
            for i, j in combinations(range(len(samples)), 2)
            for measure, second in samples[j].items()
            if measure in samples[i]
        )
        task = self._tasks[0] if self._tasks else Task("values")
        return Evaluation(task, self._images, self._subjects[0].facts.names, models, pairs)

    def _model(self, index: int, samples: Mapping[str, Sample]) -> ModelScores:
        against = self._answers[index - 1].result() if index else {}
        errors = self._noise[index - 1].result() if index else ()
        differing = self._answers[index - 1].differing[:_MOST_DIFFERING] if index else ()
        return ModelScores(
            self._subjects[index].name,
            {name: measured(sample) for name, sample in samples.items()},
            {name: sample.by_class() for name, sample in samples.items()},
            against,
            errors,
            tuple(int(i) for i in differing),
        )


def evaluate(
    subjects: Sequence[Subject],
    batches: Iterable[tuple[Feed, Sequence[Label]]],
    wanted: Wanted | None = None,
    *,
    at_a_time: int = 1,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Run all models over all `batches` of (feed, labels), batch by batch, so that `at_a_time` batches of outputs are
    alive. More than one of them: `run` of all subjects must be safe in threads.

    Raises QuantbenchError where models, labels and task do not fit.
    """
    evaluator = Evaluator(subjects, wanted)

    def outputs_of(batch: tuple[Feed, Sequence[Label]]) -> tuple[list[Arrays], Sequence[Label], tuple[int, int]]:
        feed, labels = batch
        outputs: list[Arrays] = [[np.asarray(array) for array in subject.run(feed)] for subject in subjects]
        return outputs, labels, image_size(feed)

    for outputs, labels, size in in_order(batches, outputs_of, at_a_time):
        evaluator.update(outputs, labels, size)
        if on_batch:
            on_batch(len(labels))
    return evaluator.result()


def image_size(feed: Feed) -> tuple[int, int]:
    """(H, W) of the first input that has four axes, by where its 1, 3 or 4 channels are; (1, 1) where none is."""
    arrays: list[NDArray[Any]] = [np.asarray(array) for array in feed.values() if np.ndim(array) == 4]
    if not arrays:
        return 1, 1
    shape = arrays[0].shape
    return (shape[1], shape[2]) if shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4) else (shape[2], shape[3])
