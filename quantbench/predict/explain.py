"""What the predictor knows of a version and a GPU, as text and as the tables of docs/prediction.md."""

import sys
from collections.abc import Iterator
from pathlib import Path

from quantbench.predict.evidence import GUESS, SEEN, TRAITS, confidence
from quantbench.predict.versions import DEFAULT, GPUS, KNOWN, WITH_LOGS, Version

_START, _END = "<!-- tables by quantbench.predict.explain -->", "<!-- end of tables -->"
# Fields of Version in which versions differ, with what a value means.
_DIFFERENCES: tuple[tuple[str, str, str], ...] = (
    ("last_twin_stays", "which of two twin Qs stays: the last in network order", "twins"),
    ("relu_past_qdq", "an INT8 conv, Q, DQ and Relu are one layer", "relu-past-qdq"),
    ("pointwise_takes_q", "a pointwise layer takes the Q behind it (QuantizeGenericNodes)", "pointwise-takes-q"),
    ("float_silu", "SiLU goes into float convs too", "silu-float"),
    ("silu_residual", "conv, SiLU and a residual Add are one layer", "silu-residual"),
    ("deconv_scale", "a quantized ConvTranspose takes its BatchNormalization", "deconv-bn"),
    ("attention_seeds", "LayerNormalization and attention go to Myelin", "myelin"),
    ("myelin_matmul", "every MatMul and Gemm goes to Myelin, with its Q and DQ", "myelin"),
)


def headline(version: Version) -> str:
    """One sentence: how far `version` is backed by evidence."""
    gpu = f" on {version.gpu} ({GPUS[version.gpu][0]})" if version.gpu else ""
    if version.caveats:
        return f"TensorRT {version.name}{gpu}: {'; '.join(version.caveats)}"
    return f"TensorRT {version.name}{gpu}: drawn from Q/DQ build logs or engines of this version"


def explain(version: Version) -> Iterator[str]:
    """Lines of `quantbench predict --explain-version`: the headline, what differs, what shows each thing."""
    yield headline(version)
    yield ""
    yield "What differs between versions:"
    for field, text, key in _DIFFERENCES:
        level, _ = confidence(version, (key,))
        yield f"  {'yes' if getattr(version, field) else 'no ':3} {text} ({level})"
    yield ""
    yield "What the simulation does, and what shows it:"
    for key, trait in TRAITS.items():
        level, _ = confidence(version, (key,))
        shown = trait.seen.get(version.name) if level == SEEN else _elsewhere(key)
        yield f"  {level}: {trait.text}" + (f" [{shown}]" if shown else "")


def _elsewhere(key: str) -> str:
    return "; ".join(f"{name}: {source}" for name, source in TRAITS[key].seen.items())


def with_tables(text: str) -> str:
    """`text` of docs/prediction.md with the tables between its two marks written anew."""
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    return f"{before}{start}\n{markdown()}\n{end}{after}" if start and end else text


def markdown() -> str:
    """The tables of docs/prediction.md: versions, GPUs, rules with their evidence."""
    names = [v.name for v in KNOWN]
    lines = ["| fact | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for field, text, key in _DIFFERENCES:
        cells = []
        for version in KNOWN:
            value = "yes" if getattr(version, field) else "no"
            mark = {SEEN: "", GUESS: " (guess)"}.get(confidence(version, (key,))[0], " \\*")
            cells.append(value + mark)
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    lines.append("")
    lines.append(
        f"No mark: a log or engine of that version shows it. \\*: it was seen in another version and is carried over. "
        f"(guess): no log or engine shows it. Whole Q/DQ logs or engines are at hand of {', '.join(WITH_LOGS)}; of the "
        f"others there are reports. Default: {DEFAULT}."
    )
    lines += ["", "| GPU (`--gpu`) | generation | what is known of Q/DQ engines on it |", "|---|---|---|"]
    lines += [f"| {name} | {generation} | {known} |" for name, (generation, known) in GPUS.items()]
    lines += ["", "| what the simulation does | shown by |", "|---|---|"]
    for key, trait in TRAITS.items():
        lines.append(f"| {trait.text} | {_elsewhere(key) or 'nothing yet: a guess'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
