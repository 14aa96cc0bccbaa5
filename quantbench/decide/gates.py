"""Gates: figures that a run must reach, or a CI job fails with the figure and the next command."""

from collections.abc import Mapping
from dataclasses import dataclass

from quantbench.records.evaluation import Measured, Outputs

EXIT_GATE = 3
# The measure that counts as the task's own, the first that there is; a user's metric goes before all of them.
TASK_MEASURES = ("top1", "map", "miou", "pixels")


@dataclass(frozen=True, slots=True)
class Gates:
    """`min_agreement` in percent of same answers (classes), found boxes or alike pixels; `min_sqnr` in dB of the worst
    output; `max_drop` in points (a hundredth of the measure's unit where it is a share) that the task's measure may
    lose against float. None does not count."""

    min_agreement: float | None = None
    min_sqnr: float | None = None
    max_drop: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.min_agreement, self.min_sqnr, self.max_drop))


def failures(gates: Gates, measures: Mapping[str, Measured], metric: str = "") -> list[str]:
    """One line for each gate that `measures` (see `evaluate.outputs.measures_of`) miss, or that nothing answers.
    `metric`: name of the user's own measure."""
    found = []
    if gates.min_agreement is not None:
        found += _agreement(gates.min_agreement, measures)
    if gates.min_sqnr is not None:
        sqnr = measures.get("sqnr_db")
        if sqnr is not None and sqnr.value < gates.min_sqnr:
            found.append(f"SQNR is {sqnr.value:.1f} dB, under {gates.min_sqnr:g} dB")
    if gates.max_drop is not None:
        found += _drop(gates.max_drop, measures, metric)
    return found


def outputs_missed(gates: Gates, outputs: Outputs) -> list[str]:
    """`failures` of a run's record."""
    return failures(
        gates, {name: value for name in Outputs.model_fields if (value := getattr(outputs, name)) is not None}
    )


def agreement_of(measures: Mapping[str, Measured]) -> tuple[str, Measured] | None:
    """How alike the answers are, by whatever the task has: in words, and the figure."""
    words = {"agreement": "same answers", "boxes_kept": "boxes found again", "pixels_alike": "pixels alike",
             "equal": "equal values"}  # fmt: skip
    return next(((text, measures[key]) for key, text in words.items() if key in measures), None)


def task_measure(measures: Mapping[str, Measured], metric: str = "") -> str | None:
    """Name of the task's own measure among `measures`, None where no labels were there."""
    return next((name for name in (metric, *TASK_MEASURES) if f"{name}_change" in measures), None)


def _agreement(least: float, measures: Mapping[str, Measured]) -> list[str]:
    known = agreement_of(measures)
    if known is None:
        return ["--min-agreement: these outputs have no answers to compare; use --min-sqnr, or --max-drop with labels"]
    words, figure = known
    if 100 * figure.value >= least:
        return []
    return [f"{words}: {100 * figure.value:.1f} % of {figure.count} {figure.unit}, under {least:g} %"]


def _drop(most: float, measures: Mapping[str, Measured], metric: str) -> list[str]:
    name = task_measure(measures, metric)
    if name is None:
        return ["--max-drop needs labels: --labels folder, yolo, csv=FILE, coco=FILE or masks, with the images"]
    change = measures[f"{name}_change"]
    drop = -100 * change.value
    if drop <= most:
        return []
    low, high = -100 * change.high, -100 * change.low
    return [f"{name} drops by {drop:.2f} points ({low:.2f} to {high:.2f}), more than {most:g}"]
