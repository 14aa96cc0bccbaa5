"""report.md and report.html of a PTQ run, and the few lines that the terminal shows."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from quantbench.atomic import write_json, write_text
from quantbench.json_types import JsonObject
from quantbench.records.evaluation import Measured, OutputError
from quantbench.records.run import PtqRun
from quantbench.report import html, markdown
from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.decision import Decision
from quantbench.report.difference import difference
from quantbench.report.figures import TASK_MEASURES, Run, is_for_cpu
from quantbench.report.page.data import Milliseconds
from quantbench.report.sections import (
    accuracy,
    compiler,
    folding,
    headline,
    latency,
    layers,
    prediction,
    provenance,
    ranges,
    rounding,
    thresholds,
)
from quantbench.report.verdict import Verdict
from quantbench.report.words import behind, decibel, moment, percent, points


def write_reports(folder: Path, run: PtqRun, decision: Decision, extra: Sequence[Section] = ()) -> None:
    """Write report.md and report.html of `run` into `folder`; `extra` goes before the end."""
    kept = run.placement.kept_float
    sections = [
        headline.section(run),
        accuracy.section(run),
        *folding.sections(run),
        *thresholds.sections(run),
        *ranges.sections(run.calibration.ranges),
        *rounding.sections(run),
        prediction.section(run),
        compiler.section(run.compiled, lambda node: kept.get(node, "")),
        latency.section(run),
        layers.section(run),
        layers.kept(run),
        *extra,
        provenance.section(run),
    ]
    title = f"{run.model.name} in INT8"
    subtitle = (
        f"Post-training quantization with ranges by {run.calibration.described}, from {run.data.images} images, "
        f"{moment(run.measured_by('evaluate').time)}"
    )
    write_text(folder / "report.md", markdown.render(title, subtitle, [*decision_sections(decision), *sections]))
    # The page's own table of layers says all that the section says, and more.
    shown = [section for section in sections if section.title != layers.TITLE]
    write_text(folder / "report.html", html.render(title, subtitle, shown, decision, lead=2))


def write_decision(folder: Path, runs: Sequence[tuple[Path, Run]], decision: Decision) -> None:
    """Write report.md, .html and .json over several runs (or one) into `folder`; the first is what `decision` is on."""
    first = runs[0][1]
    if len(runs) == 1 and isinstance(first, PtqRun) and folder == runs[0][0]:
        write_reports(folder, first, decision)
    else:
        sections = [difference(runs[0], runs[1])] if len(runs) > 1 else []
        sections.append(prediction.section(first))
        for path, run in runs:
            found = provenance.section(run)
            sections.append(replace(found, title=f"{found.title}: {path}"))
        title = f"{first.model.name} in INT8" + (f": {len(runs)} runs" if len(runs) > 1 else "")
        subtitle = f"{', '.join(str(path) for path, _ in runs[:4])}{' …' if len(runs) > 4 else ''}"
        write_text(folder / "report.md", markdown.render(title, subtitle, [*decision_sections(decision), *sections]))
        write_text(folder / "report.html", html.render(title, subtitle, sections, decision, lead=0))
    write_json(folder / "report.json", decision_json(decision))


def decision_json(decision: Decision) -> JsonObject:
    """Verdict, leads and the page's data as plain data."""
    return {
        "verdict": asdict(decision.verdict),
        "leads": [asdict(lead) for lead in decision.leads],
        "fine": list(decision.fine),
        **decision.data.to_json(),
    }


def decision_sections(decision: Decision) -> list[Section]:
    """Verdict, points and leads in blocks, for Markdown, where the page has plots."""
    verdict = decision.verdict
    next_step = (Text("Next:", code=verdict.next_step),) if verdict.next_step else ()
    data = decision.data
    rows = tuple(
        (
            point.what, point.run, f"{point.accuracy:.2f} ({point.low:.2f} to {point.high:.2f})",
            *(_ms(point.latency.get(device)) for device in data.devices),
        )
        for point in data.points
    )  # fmt: skip
    head = ("Model", "Run", f"{data.measure}, {data.unit}", *(f"ms, {device}" for device in data.devices))
    leads = tuple((lead.title, lead.evidence, lead.next_step, lead.confidence) for lead in decision.leads)
    blocks: list[Block] = []
    if leads:
        blocks.append(Table(("Lead", "Evidence", "Next", "Confidence"), leads))
    if decision.fine:
        blocks.append(Text(f"Fine: {'; '.join(decision.fine)}."))
    return [
        Section(f"Verdict: {verdict.level}. {verdict.headline}", (Text(f"{verdict.sentence}."), *next_step)),
        Section("Accuracy against latency", (Table(head, rows),)),
        Section("Leads", tuple(blocks)),
    ]


def _ms(time: Milliseconds | None) -> str:
    return "-" if time is None else f"{time.ms:.3g} {time.how}"


def _sqnr(parts: Sequence[OutputError]) -> str:
    """The worst output's, for a good one beside it helps nobody."""
    found = [(part.sqnr, part.name) for part in parts if isinstance(part.sqnr, Measured)]
    if not found:
        reasons = "; ".join(f"{part.name}: {decibel(part.sqnr)}" for part in parts)
        return f"SQNR of the outputs: {reasons}"
    least, name = min(found, key=lambda pair: pair[0].value)
    where = f" of {name}, the lowest of {len(found)}" if len(found) > 1 else " of the output"
    return f"SQNR{where}: {decibel(least)}"


def summary_lines(folder: Path, run: PtqRun, verdict: Verdict) -> list[str]:
    """What a user reads in the terminal when a run is done."""
    result, placement = run.evaluation, run.placement
    outputs = result.outputs
    count = f"{len(placement.quantized)} of {len(placement.weighted)}"
    lines = [f"{count} weighted layers quantized ({run.calibration.described})"]
    if outputs.agreement is not None:
        agreement = outputs.agreement
        lines.append(f"same answer as FP32: {percent(agreement)} of {behind(agreement)}")
    for name, title in TASK_MEASURES.items():
        plain, int8, change = (getattr(outputs, f"{name}_{end}") for end in ("float", "int8", "change"))
        if change is not None:
            a, b = (f"{100 * found.value:.1f} %" for found in (plain, int8))
            lines.append(f"{title}: {a} in FP32, {b} in INT8: {points(change)}")
    if outputs.boxes_kept is not None:
        lines.append(f"boxes of FP32 that INT8 finds too: {percent(outputs.boxes_kept)}")
    elif result.boxes is not None:
        lines.append("FP32 finds no box in these images, taking the output as boxes; see the report")
    lines.append(_sqnr(result.parts))
    if result.latency is not None and is_for_cpu(run):
        a_ms, b_ms = result.latency.plain.median_ms, result.latency.int8.median_ms
        lines.append(f"onnxruntime on this CPU: {a_ms:.3g} ms in FP32, {b_ms:.3g} ms in INT8 ({a_ms / b_ms:.2f} x)")
    if run.compiled is not None:
        lines.append(compiler.summary(run.compiled))
    lines.append(f"{verdict.level}: {verdict.headline}")
    if verdict.next_step:
        lines.append(f"next: {verdict.next_step}")
    return [*lines, f"report: {folder / 'report.html'}"]
