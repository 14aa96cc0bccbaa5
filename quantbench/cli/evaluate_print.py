"""An Evaluation on the terminal: a table of models, differences in pairs, SQNR of outputs, classes that moved."""

from collections.abc import Callable

from quantbench.evaluate.evaluator import Evaluation, ModelScores, Pair
from quantbench.records.evaluation import Measured, NotMeasurable
from quantbench.report.words import decibel, percent, pixels
from quantbench.terminal import echo

_TITLES = {
    "top1": "top-1", "top5": "top-5", "map": "mAP50-95", "map50": "mAP50", "miou": "mIoU", "pixels": "pixels right",
    "agreement": "same answer", "boxes_kept": "boxes kept", "boxes_shared": "boxes shared",
    "pixels_alike": "pixels alike", "equal": "equal values", "point_error": "key points off by",
}  # fmt: skip
_SHOWN_CLASSES = 8


def echo_evaluation(evaluation: Evaluation) -> None:
    """Print what was found, the most telling figures first."""
    why = f", told from {evaluation.task.why}" if evaluation.task.why else ""
    echo(f"{evaluation.images} images; outputs are {evaluation.task.kind}{why}")
    first = evaluation.models[0]
    for model in evaluation.models:
        echo(f"\n{model.name}" + (" (the reference)" if model is first else ""))
        for name, value in {**model.measures, **model.against}.items():
            echo(f"  {_TITLES.get(name, name):20} {_shown(name, value)}")
        for error in model.errors:
            echo(f"  {'SQNR ' + error.name:20} {decibel(error.sqnr)}")
        if not (model.measures or model.against or model.errors):
            echo("  no labels: measured only against the others")
    if evaluation.pairs:
        echo("\nDifferences on the same images (second minus first)")
    for pair in evaluation.pairs:
        echo(f"  {_pair(pair)}")
    for model in evaluation.models[1:]:
        _echo_classes(evaluation, first, model)


def _shown(name: str, value: Measured | NotMeasurable) -> str:
    if isinstance(value, NotMeasurable):
        return f"not measurable: {value.reason}"
    words: Callable[[Measured], str] = pixels if name == "point_error" else percent
    if name in _TITLES:
        return words(value)
    return f"{value.value:.4g} ({value.low:.4g} to {value.high:.4g})"


def _pair(pair: Pair) -> str:
    found = pair.difference
    scale, unit = (100, " points") if pair.measure in _TITLES else (1, "")
    value, low, high = (scale * v for v in (found.measured.value, found.measured.low, found.measured.high))
    p = f", p {found.p:.2g} (McNemar, exact)" if found.p is not None else ""
    verdict = "a difference" if found.real else "no difference that these images show"
    title = _TITLES.get(pair.measure, pair.measure)
    return f"{pair.first} → {pair.second}, {title}: {value:+.2f}{unit} ({low:+.2f} to {high:+.2f}){p}: {verdict}"


def _echo_classes(evaluation: Evaluation, first: ModelScores, model: ModelScores) -> None:
    measure = next((name for name in ("top1", "map", "miou") if model.by_class.get(name)), None)
    if measure is None:
        return
    theirs, ours = model.by_class[measure], first.by_class[measure]
    moved = sorted((theirs[c][0] - ours[c][0], c) for c in theirs if c in ours and theirs[c][0] != ours[c][0])
    if not moved:
        return
    echo(f"\n{_TITLES[measure]} by class, {model.name}, the {min(len(moved), _SHOWN_CLASSES)} that lose most")
    for change, label in moved[:_SHOWN_CLASSES]:
        name = evaluation.names[label] if label < len(evaluation.names) else f"class {label}"
        value, count = theirs[label]
        echo(f"  {name:24} {100 * ours[label][0]:5.1f} % → {100 * value:5.1f} % ({100 * change:+.1f}; {count:,})")
