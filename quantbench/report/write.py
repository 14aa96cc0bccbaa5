"""report.md and report.html of a PTQ run, and the few lines that the terminal shows."""

from collections.abc import Sequence
from pathlib import Path

from quantbench.atomic import write_text
from quantbench.records.evaluation import Measured, OutputError
from quantbench.records.run import PtqRun
from quantbench.report import html, markdown
from quantbench.report.blocks import Section
from quantbench.report.sections import accuracy, compiler, headline, latency, layers, prediction, provenance
from quantbench.report.words import behind, decibel, percent, points


def write_reports(folder: Path, run: PtqRun, extra: Sequence[Section] = ()) -> None:
    """Write report.md and report.html of `run` into `folder`; `extra` goes before the end."""
    kept = run.placement.kept_float
    sections = [
        headline.section(run),
        accuracy.section(run),
        prediction.section(run),
        compiler.section(run.compiled, lambda node: kept.get(node, "")),
        latency.section(run),
        layers.section(run),
        *extra,
        provenance.section(run),
    ]
    title = f"{run.model.name} in INT8"
    subtitle = (
        f"Post-training quantization with {run.calibration.method} ranges from {run.data.images} images, "
        f"{run.measured_by('evaluate').time}"
    )
    write_text(folder / "report.md", markdown.render(title, subtitle, sections))
    write_text(folder / "report.html", html.render(title, subtitle, sections))


def _sqnr(parts: Sequence[OutputError]) -> str:
    """The worst output's, for a good one beside it helps nobody."""
    found = [(part.sqnr, part.name) for part in parts if isinstance(part.sqnr, Measured)]
    if not found:
        reasons = "; ".join(f"{part.name}: {decibel(part.sqnr)}" for part in parts)
        return f"SQNR of the outputs: {reasons}"
    least, name = min(found, key=lambda pair: pair[0].value)
    where = f" of {name}, the lowest of {len(found)}" if len(found) > 1 else " of the output"
    return f"SQNR{where}: {decibel(least)}"


def summary_lines(folder: Path, run: PtqRun) -> list[str]:
    """What a user reads in the terminal when a run is done."""
    result, placement = run.evaluation, run.placement
    outputs = result.outputs
    lines = [
        f"{len(placement.quantized)} of {len(placement.weighted)} weighted layers quantized ({run.calibration.method})"
    ]
    if outputs.agreement is not None:
        agreement = outputs.agreement
        lines.append(f"same answer as FP32: {percent(agreement)} of {behind(agreement)}")
    if outputs.map_change is not None and outputs.map_float is not None and outputs.map_int8 is not None:
        a, b = (f"{100 * found.value:.1f} %" for found in (outputs.map_float, outputs.map_int8))
        lines.append(f"mAP50-95: {a} in FP32, {b} in INT8: {points(outputs.map_change)}")
    if outputs.boxes_kept is not None:
        lines.append(f"boxes of FP32 that INT8 finds too: {percent(outputs.boxes_kept)}")
    elif result.boxes is not None:
        lines.append("FP32 finds no box in these images, taking the output as boxes; see the report")
    lines.append(_sqnr(result.parts))
    if result.latency is not None:
        a_ms, b_ms = result.latency.plain.median_ms, result.latency.int8.median_ms
        lines.append(f"onnxruntime on this CPU: {a_ms:.1f} ms in FP32, {b_ms:.1f} ms in INT8 ({a_ms / b_ms:.2f} x)")
    if run.compiled is not None:
        lines.append(compiler.summary(run.compiled))
    return [*lines, f"report: {folder / 'report.html'}"]
