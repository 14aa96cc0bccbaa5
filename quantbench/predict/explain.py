"""What the predictor knows of a version and a GPU, as text and as the tables of docs/prediction.md."""

import sys
from collections.abc import Iterator
from pathlib import Path

from quantbench.predict.evidence import ELSEWHERE, GUESS, SEEN, TRAITS, confidence
from quantbench.predict.reports import NOT_REBUILT, UNKNOWN, unknown_of
from quantbench.predict.versions import DEFAULT, GPUS, KNOWN, WITH_LOGS, Version, version_of

# Columns of the table: the known versions, and some that are taken from their neighbours.
_SHOWN = sorted([*(v.name for v in KNOWN), "8.6.3", "10.3", "10.12"], key=lambda name: version_of(name).number)
_START, _END = "<!-- tables by quantbench.predict.explain -->", "<!-- end of tables -->"
# Fields of Version in which versions differ: what a value means, the trait whose evidence shows it, and versions whose
# log or engine shows that it is not so.
_DIFFERENCES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "last_twin_stays",
        "which of two twin Qs stays: the last in network order",
        "twins",
        ("8.4", "8.5.10", "8.6.0", "10.9"),
    ),
    ("relu_past_qdq", "an INT8 conv, Q, DQ and Relu are one layer", "relu-past-qdq", ()),
    ("pointwise_takes_q", "a pointwise layer takes the Q behind it (QuantizeGenericNodes)", "pointwise-takes-q", ()),
    ("float_silu", "SiLU goes into float convs too", "silu-float", ("8.4",)),
    ("silu_residual", "conv, SiLU and a residual Add are one layer", "silu-residual", ()),
    ("deconv_scale", "a quantized ConvTranspose takes its BatchNormalization", "deconv-bn", ("8.6.0",)),
    ("myelin_attention", "attention goes to Myelin, INT8 products by weights do not", "myelin-matmul", ("8.4",)),
    ("myelin_matmul", "every MatMul and Gemm goes to Myelin, with its Q and DQ", "myelin-matmul", ("8.4",)),
)


def headline(version: Version) -> str:
    """One sentence: how far `version` is backed by evidence."""
    gpu = f" on {version.gpu} ({GPUS[version.gpu][0]})" if version.gpu else ""
    if version.caveats:
        return f"TensorRT {version.name}{gpu}: {'; '.join(version.caveats)}"
    return f"TensorRT {version.name}{gpu}: drawn from Q/DQ build logs or engines of this version"


def explain(version: Version) -> Iterator[str]:
    """Lines of `quantbench predict --explain-version`: the headline, what differs, what shows each thing, and figures
    reported of this version that the prediction does not agree with."""
    yield headline(version)
    yield ""
    yield "What differs between versions:"
    for field, text, key, absent in _DIFFERENCES:
        value = bool(getattr(version, field))
        yield f"  {'yes' if value else 'no ':3} {text} ({_level(version, value, key, absent)})"
    yield ""
    yield "What the simulation does, and what shows it:"
    for key, trait in TRAITS.items():
        level, _ = confidence(version, (key,))
        shown = trait.seen.get(version.name) if level == SEEN else _elsewhere(key)
        yield f"  {level}: {trait.text}" + (f" [{shown}]" if shown else "")
    unknown = list(unknown_of(version.name))
    if unknown:
        yield ""
        yield "Reported of this version, and unknown here:"
    for item in unknown:
        said = item.predicted if item.predicted == NOT_REBUILT else f"{item.predicted} predicted"
        yield f"  {item.figure}, {item.source}: {item.real}, {said} ({item.why})"


def _level(version: Version, value: bool, key: str, absent: tuple[str, ...]) -> str:
    """How well it is known that `version` does so, or does not."""
    if value:
        return confidence(version, (key,))[0]
    if version.name in absent:
        return SEEN
    return ELSEWHERE if absent else GUESS


def _elsewhere(key: str) -> str:
    return "; ".join(f"{name}: {source}" for name, source in TRAITS[key].seen.items())


def with_tables(text: str) -> str:
    """`text` of docs/prediction.md with the tables between its two marks written anew."""
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    return f"{before}{start}\n{markdown()}\n{end}{after}" if start and end else text


def markdown() -> str:
    """The tables of docs/prediction.md: versions, GPUs, rules with their evidence, reports that stay unknown."""
    shown = [version_of(name) for name in _SHOWN]
    lines = ["| fact | " + " | ".join(_SHOWN) + " |", "|---|" + "---|" * len(_SHOWN)]
    for field, text, key, absent in _DIFFERENCES:
        cells = []
        for version in shown:
            value = bool(getattr(version, field))
            mark = {SEEN: "", GUESS: " (guess)"}.get(_level(version, value, key, absent), " \\*")
            cells.append(("yes" if value else "no") + mark)
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    lines.append("")
    lines.append(
        f"No mark: a log or engine of that version shows it. \\*: it was seen in another version and is carried over. "
        f"(guess): no log or engine shows it. Whole Q/DQ logs or engines are at hand of {', '.join(WITH_LOGS)}; of the "
        f"others there are reports, of {', '.join(v.name for v in shown if not v.backed)} nothing: a version of which "
        f"nothing is known is taken to do as the newest known one before it. Default: {DEFAULT}."
    )
    lines += ["", "| GPU (`--gpu`) | generation | what is known of Q/DQ engines on it |", "|---|---|---|"]
    lines += [f"| {name} | {generation} | {known} |" for name, (generation, known) in GPUS.items()]
    lines += ["", "| what the simulation does | shown by |", "|---|---|"]
    for key, trait in TRAITS.items():
        lines.append(f"| {trait.text} | {_elsewhere(key) or 'nothing yet: a guess'} |")
    lines += [
        "",
        "| reported, and unknown here | version | figure | real | predicted | why |",
        "|---|---|---|---|---|---|",
    ]
    for item in UNKNOWN:
        cells = [item.source, ", ".join(item.versions), item.figure, item.real, item.predicted, item.why]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
