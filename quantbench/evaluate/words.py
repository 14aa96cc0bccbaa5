"""An Evaluation in words: the figures of a model, and what lies between two."""

from collections.abc import Callable

from quantbench.evaluate.evaluator import ModelScores, Pair
from quantbench.records.evaluation import Measured, NotMeasurable
from quantbench.report.words import decibel, percent, pixels

TITLES = {
    "top1": "top-1", "top5": "top-5", "map": "mAP50-95", "map50": "mAP50", "miou": "mIoU", "pixels": "pixels right",
    "agreement": "same answer", "boxes_kept": "boxes kept", "boxes_shared": "boxes shared",
    "pixels_alike": "pixels alike", "equal": "equal values", "point_error": "key points off by",
}  # fmt: skip


def figures(model: ModelScores) -> list[tuple[str, str]]:
    """Name and value of all that was measured of `model`, with intervals."""
    found = [
        (TITLES.get(name, name), _value(name, value)) for name, value in {**model.measures, **model.against}.items()
    ]
    return [*found, *((f"SQNR {error.name}", decibel(error.sqnr)) for error in model.errors)]


def difference(pair: Pair) -> str:
    """What lies between two models, and whether the images show it."""
    found = pair.difference
    scale, unit = (100, " points") if pair.measure in TITLES else (1, "")
    value, low, high = (scale * v for v in (found.measured.value, found.measured.low, found.measured.high))
    p = f", p {found.p:.2g} (McNemar, exact)" if found.p is not None else ""
    verdict = "a difference" if found.real else "no difference that these images show"
    title = TITLES.get(pair.measure, pair.measure)
    return f"{pair.first} → {pair.second}, {title}: {value:+.2f}{unit} ({low:+.2f} to {high:+.2f}){p}: {verdict}"


def _value(name: str, value: Measured | NotMeasurable) -> str:
    if isinstance(value, NotMeasurable):
        return f"not measurable: {value.reason}"
    words: Callable[[Measured], str] = pixels if name == "point_error" else percent
    if name in TITLES:
        return words(value)
    return f"{value.value:.4g} ({value.low:.4g} to {value.high:.4g})"
