"""An Evaluation on the terminal: a table of models, differences in pairs, SQNR of outputs, classes that moved."""

from quantbench.evaluate.evaluator import Evaluation, ModelScores
from quantbench.evaluate.words import TITLES, difference, figures
from quantbench.terminal import echo

_SHOWN_CLASSES = 8


def echo_evaluation(evaluation: Evaluation) -> None:
    """Print what was found, the most telling figures first."""
    why = f", told from {evaluation.task.why}" if evaluation.task.why else ""
    echo(f"{evaluation.images} images; outputs are {evaluation.task.kind}{why}")
    first = evaluation.models[0]
    for model in evaluation.models:
        echo(f"\n{model.name}" + (" (the reference)" if model is first else ""))
        found = figures(model)
        for name, value in found:
            echo(f"  {name:20} {value}")
        if not found:
            echo("  no labels: measured only against the others")
    if evaluation.pairs:
        echo("\nDifferences on the same images (second minus first)")
    for pair in evaluation.pairs:
        echo(f"  {difference(pair)}")
    if evaluation.arithmetic:
        echo("\nINT8 of onnxruntime beside our own integers, each tensor computed of what onnxruntime had before it")
    for name, far in evaluation.arithmetic.items():
        steps = f", by {far.worst} step{'s' if far.worst > 1 else ''} at most, in {far.where}" if far.worst else ""
        echo(f"  {name}: {far.tensors} tensors, {far.values:,} values, {far.differing:,} differ{steps}")
    for model in evaluation.models[1:]:
        _echo_classes(evaluation, first, model)


def _echo_classes(evaluation: Evaluation, first: ModelScores, model: ModelScores) -> None:
    measure = next((name for name in ("top1", "map", "miou") if model.by_class.get(name)), None)
    if measure is None:
        return
    theirs, ours = model.by_class[measure], first.by_class[measure]
    moved = sorted((theirs[c][0] - ours[c][0], c) for c in theirs if c in ours and theirs[c][0] != ours[c][0])
    if not moved:
        return
    echo(f"\n{TITLES[measure]} by class, {model.name}, the {min(len(moved), _SHOWN_CLASSES)} that lose most")
    for change, label in moved[:_SHOWN_CLASSES]:
        name = evaluation.names[label] if label < len(evaluation.names) else f"class {label}"
        value, count = theirs[label]
        echo(f"  {name:24} {100 * ours[label][0]:5.1f} % → {100 * value:5.1f} % ({100 * change:+.1f}; {count:,})")
