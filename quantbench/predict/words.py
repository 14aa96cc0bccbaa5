"""A Prediction in words: rows of its table and the lines below it, as plain text."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE, WEIGHTED
from quantbench.layers.layer import Layer
from quantbench.predict.evidence import ELSEWHERE, LEVELS
from quantbench.predict.prediction import FloatWeighted, Prediction

COLUMNS = ("layer", "type", "in", "out", "with", "note")
_SHOWN = 12
_EXAMPLES = 2
_NODES = 4


def rows(prediction: Prediction) -> list[tuple[str, ...]]:
    """One row a layer, under `COLUMNS`: its first ONNX node, and under "with" the last part of the names of the others
    that it fuses, Q/DQ left out. `guess 1` refers to the numbered list that `lines` ends with."""
    numbers = _numbers(prediction)
    qdq = {fate.node for fate in prediction.fates}
    return [_row(layer, numbers, qdq) for layer in prediction.layers]


def lines(prediction: Prediction) -> Iterator[str]:
    """Fates, figures, what vanishes and merges, what stays float and the mend, and the guesses."""
    numbers = _numbers(prediction)
    yield prediction.headline
    if not any(layer.origin == "" for layer in prediction.layers):
        yield "The predicted engine computes nothing: what the network returns comes from constants, Q and DQ alone"
    counts = Counter((fate.op, fate.status) for fate in prediction.fates)
    yield "Q/DQ: " + ", ".join(f"{count} {op} {status}" for (op, status), count in sorted(counts.items()))
    for fate in prediction.leftover:
        why = prediction.fate_guesses.get(fate.name)
        yield f"  left over: {fate.name}" + (f" (guess {numbers[why]})" if why else "")
    yield (
        f"{_many(len(prediction.layers), 'layer', 'layers')}, {prediction.int8_layers} weighted in INT8, "
        f"{_many(len(prediction.reformats), 'reformat', 'reformats')}, {prediction.float_bytes / 1e6:.1f} MB moved in "
        f"float between INT8 layers"
    )
    yield "Layers " + ", ".join(
        f"{level}: {prediction.confidence[level]}" for level in LEVELS if level in prediction.confidence
    )
    places = prediction.in_place
    if any(places.values()):
        yield (
            f"In place: {_many(places['concats'], 'concat', 'concats')} ({_many(places['copies'], 'copy', 'copies')}), "
            f"{_many(places['slices'], 'slice', 'slices')}"
        )
    for step in prediction.steps:
        if step.name == "Merging layers":
            yield f"Merged: {' || '.join((step.target, *step.others))}"
    yield from _mends("Weighted layers in float:", prediction.float_weighted)
    yield from _mends("INT8 layers that write float:", prediction.float_outputs)
    yield from _guesses(prediction, numbers)


def guesses(prediction: Prediction) -> tuple[tuple[str, str], ...]:
    """Each reason for a guess, and what it concerns: "everything", or how many layers and Q/DQ, with examples."""
    found = [(why, "everything") for why in prediction.version_guesses]
    for why in _numbers(prediction):
        layers = [_short(layer) for layer in prediction.layers if prediction.guesses.get(layer.name) == why]
        fates = [name for name, reason in prediction.fate_guesses.items() if reason == why]
        counts = [_many(len(layers), "layer", "layers")] if layers else []
        counts += [f"{len(fates)} Q/DQ"] if fates else []
        names = [*layers, *fates]
        more = " ..." if len(names) > _EXAMPLES else ""
        found.append((why, f"{', '.join(counts)} ({', '.join(names[:_EXAMPLES])}{more})"))
    return tuple(found)


def model_notes(refused: Sequence[str], inner: Mapping[str, int]) -> tuple[str, ...]:
    """What to know before believing the prediction of a model: `refused` are nodes that TensorRT does not take as
    INT8, with the reason; `inner` counts the nodes in bodies of If, Loop and Scan by operator."""
    notes = []
    if refused:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        notes.append(
            f"Not all here is the symmetric INT8 that TensorRT takes ({refused[0]}{more}: 'quantbench lint' names "
            f"all); predicted as if it were"
        )
    qdq = sum(inner.get(op, 0) for op in (QUANTIZE, DEQUANTIZE))
    weighted = sum(count for op, count in inner.items() if op in WEIGHTED)
    if qdq or weighted:
        parts = [_many(qdq, "Q or DQ", "Q and DQ")] if qdq else []
        parts += [_many(weighted, "weighted node", "weighted nodes")] if weighted else []
        notes.append(
            f"Not predicted: {' and '.join(parts)} in bodies of If, Loop and Scan, which count as one layer each"
        )
    return tuple(notes)


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _row(layer: Layer, numbers: Mapping[str, int], qdq: Set[str]) -> tuple[str, ...]:
    notes = []
    if "residual" in layer.attributes:
        notes.append("+ residual")
    if "guess" in layer.attributes:
        notes.append(f"guess {numbers[str(layer.attributes['guess'])]}")
    elif layer.attributes.get("confidence") == ELSEWHERE:
        notes.append("elsewhere")
    if layer.type == "Myelin":
        notes.append(f"about {layer.attributes['kernels_estimated']} kernels, {layer.attributes['int8_inside']} of "
                     f"{layer.attributes['weighted_inside']} products INT8")  # fmt: skip
    inputs = ",".join(t.dtype for t in layer.inputs)
    outputs = ",".join(sorted({t.dtype for t in layer.outputs}))
    others = [node.rpartition("/")[2] for node in layer.nodes[1:] if node not in qdq]
    fused = " + ".join(others[:_NODES]) + (f" + {len(others) - _NODES} more" if len(others) > _NODES else "")
    return (_short(layer), layer.type, inputs, outputs, fused, "; ".join(notes))


def _short(layer: Layer) -> str:
    """The first ONNX node stands for a layer; names of fused layers are too long for a table."""
    if layer.type == "Myelin" or layer.origin == "QDQ" or not layer.nodes:
        return layer.name
    return layer.nodes[0]


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
    found = guesses(prediction)
    if found:
        yield "Guesses, which no log or engine at hand shows:"
    for why, what in found:
        yield f"  {numbers.get(why, 'all')}: {why}" + (f": {what}" if why in numbers else "")
