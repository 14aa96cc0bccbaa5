"""A Prediction in words: rows of its table and the lines below it, as plain text."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from quantbench.inspection.layer import Layer
from quantbench.predict.prediction import FloatWeighted, Prediction
from quantbench.predict.score import Score

COLUMNS = ("layer", "type", "in", "out", "nodes", "note")
_SHOWN = 12
_EXAMPLES = 2


def rows(prediction: Prediction) -> list[tuple[str, ...]]:
    """One row a layer, under `COLUMNS`. `guess 1` refers to the numbered list that `lines` ends with."""
    numbers = _numbers(prediction)
    return [_row(layer, numbers) for layer in prediction.layers]


def lines(prediction: Prediction) -> Iterator[str]:
    """Fates, figures, what vanishes and merges, what stays float and the mend, and the guesses."""
    numbers = _numbers(prediction)
    counts = Counter((fate.op, fate.status) for fate in prediction.fates)
    yield "Q/DQ: " + ", ".join(f"{count} {op} {status}" for (op, status), count in sorted(counts.items()))
    for fate in prediction.leftover:
        why = prediction.fate_guesses.get(fate.name)
        yield f"  left over: {fate.name}" + (f" (guess {numbers[why]})" if why else "")
    yield (
        f"{len(prediction.layers)} layers, {prediction.int8_layers} weighted in INT8, {len(prediction.reformats)} "
        f"reformats, {prediction.float_bytes / 1e6:.1f} MB moved in float between INT8 layers"
    )
    places = prediction.in_place
    if any(places.values()):
        yield f"In place: {places['concats']} concats ({places['copies']} copies), {places['slices']} slices"
    for step in prediction.steps:
        if step.name == "Merging layers":
            yield f"Merged: {' || '.join((step.target, *step.others))}"
    yield from _mends("Weighted layers in float:", prediction.float_weighted)
    yield from _mends("INT8 layers that write float:", prediction.float_outputs)
    yield from _guesses(prediction, numbers)


def score_lines(scores: Sequence[Score]) -> Iterator[str]:
    """One line a kind of statement."""
    for score in scores:
        yield f"{score.kind}: {score.hits} right, precision {score.precision:.1%}, recall {score.recall:.1%}"


def _row(layer: Layer, numbers: Mapping[str, int]) -> tuple[str, ...]:
    notes = []
    if "residual" in layer.attributes:
        notes.append(f"+ {layer.attributes['residual']}")
    if "guess" in layer.attributes:
        notes.append(f"guess {numbers[str(layer.attributes['guess'])]}")
    name = layer.nodes[0] if layer.nodes and layer.origin != "QDQ" else layer.name
    inputs = ",".join(t.dtype for t in layer.inputs)
    outputs = ",".join(sorted({t.dtype for t in layer.outputs}))
    return (name, layer.type, inputs, outputs, str(len(layer.nodes)), "; ".join(notes))


def _mends(title: str, found: Sequence[FloatWeighted]) -> Iterator[str]:
    if found:
        yield title
    for item in found[:_SHOWN]:
        yield f"  {item.node}: {item.reason}; {item.mend}"
    if len(found) > _SHOWN:
        yield f"  and {len(found) - _SHOWN} more (--json tells all)"


def _numbers(prediction: Prediction) -> dict[str, int]:
    reasons = [*prediction.guesses.values(), *prediction.fate_guesses.values()]
    return {why: number for number, why in enumerate(dict.fromkeys(reasons), start=1)}


def _guesses(prediction: Prediction, numbers: Mapping[str, int]) -> Iterator[str]:
    if not numbers and not prediction.version_guesses:
        return
    yield "Guesses, which no log or engine at hand shows:"
    for why in prediction.version_guesses:
        yield f"  all: {why}"
    for why, number in numbers.items():
        layers = [name for name, reason in prediction.guesses.items() if reason == why]
        fates = [name for name, reason in prediction.fate_guesses.items() if reason == why]
        counts = [f"{len(found)} {what}" for found, what in ((layers, "layers"), (fates, "Q/DQ")) if found]
        names = [*layers, *fates]
        more = " ..." if len(names) > _EXAMPLES else ""
        yield f"  {number}: {why}: {', '.join(counts)} ({', '.join(names[:_EXAMPLES])}{more})"
