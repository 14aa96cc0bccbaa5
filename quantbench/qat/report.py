"""report.md and report.html of a qat-export run, and the lines that the terminal shows."""

from collections.abc import Mapping
from pathlib import Path

from quantbench.atomic import write_text
from quantbench.records.qat import Agreement
from quantbench.records.run import QatRun
from quantbench.report import html, markdown
from quantbench.report.blocks import Block, Cards, Section, Table, Text
from quantbench.report.decision import decide
from quantbench.report.sections import compiler, prediction, provenance, ranges
from quantbench.report.words import decibel, percent, size
from quantbench.report.write import decision_sections


def write_reports(folder: Path, run: QatRun) -> None:
    """Write both reports of `run` into `folder`."""
    sections = [s for s in (_headline(run), _agreement(run), _training(run), prediction.section(run),
                            _compiler(run), _graph(run), _ranges(run), _provenance(run)) if s is not None]  # fmt: skip
    title = f"{run.model.name} with Q/DQ"
    subtitle = f"quantbench qat-export, {run.provenance.time}"
    decision = decide(folder, run)
    write_text(folder / "report.md", markdown.render(title, subtitle, [*decision_sections(decision), *sections]))
    write_text(folder / "report.html", html.render(title, subtitle, sections, decision, lead=2))


def summary_lines(folder: Path, run: QatRun) -> list[str]:
    """What a user reads in the terminal when a run is done."""
    onnx, against = run.exported, run.against_torch
    lines = [
        f"{folder / onnx.file}: {len(onnx.quantized)} of {len(onnx.weighted)} weighted layers quantized, "
        f"{size(onnx.bytes)}, opset {onnx.opset}",
        f"onnxruntime against torch: {decibel(against.sqnr_db)}, largest difference {against.max_difference:.3g} "
        f"of {against.largest_output:.3g}{_agreed(against)}",
    ]
    if run.training is not None:
        lines.append(f"fine-tuned: best epoch {run.training.best_epoch + 1} of {run.training.epochs}")
    if run.compiled is not None:
        lines.append(compiler.summary(run.compiled))
    return [*lines, f"{run.provenance.seconds:.0f} s; report: {folder / 'report.html'}"]


def _agreed(against: Agreement) -> str:
    if against.boxes is not None:
        return f", {against.boxes.found} of {against.boxes.reference} boxes alike"
    return f", same answer on {percent(against.agreement)}" if against.agreement is not None else ""


def _headline(run: QatRun) -> Section:
    onnx = run.exported
    cards = (
        (f"{len(onnx.quantized)} of {len(onnx.weighted)}", "weighted layers quantized", "Q/DQ on input and weight"),
        (size(onnx.bytes), onnx.file, f"opset {onnx.opset}"),
        (
            decibel(run.against_float.sqnr_db).partition(" (")[0],
            "SQNR against float",
            f"{run.data.images} images calibrated",
        ),
    )
    blocks: list[Block] = [Cards(cards)]
    if run.quantized_by:
        blocks.append(Text(f"The checkpoint was quantized by {run.quantized_by} and exported as it is.", "note"))
    if "crops of photos" in run.data.what:
        blocks.append(Text(f"Calibrated on {run.data.what}: ranges of your own images will differ.", "warning"))
    return Section("", tuple(blocks))


def _agreement(run: QatRun) -> Section:
    rows = tuple(
        (label, str(facts.images), f"{facts.max_difference:.4g}", decibel(facts.sqnr_db), _alike(facts))
        for label, facts in (("torch, quantized", run.against_torch), ("torch, float", run.against_float))
    )
    head = ("ONNX against", "Images", "Largest difference", "SQNR", "Alike")
    note = Text(
        "Both sides round to the same steps, but sum in another order: a value next to the border of two steps can "
        "fall on either side, and the difference grows from layer to layer up to the size of quantization noise."
    )
    return Section("The exported model against torch", (Table(head, rows), note))


def _alike(facts: Agreement) -> str:
    if facts.boxes is not None:
        return f"{facts.boxes.found} of {facts.boxes.reference} boxes"
    return percent(facts.agreement) if facts.agreement is not None else "-"


def _training(run: QatRun) -> Section | None:
    facts = run.training
    if facts is None:
        return None
    rows = [("Epochs", str(facts.epochs)), ("Best epoch", str(facts.best_epoch + 1))]
    rows += [(f"Top-1, {name}", percent(value)) for name, value in facts.top1.items()]
    for number, value in enumerate(facts.history, start=1):
        if isinstance(value, dict):
            rows.append((f"Epoch {number}: mAP50-95", f"{value.get('metrics/mAP50-95(B)', 0):.4f}"))
        else:
            rows.append((f"Epoch {number}: top-1", f"{value:.4f}"))
    return Section("Fine-tuning", (Table(("", ""), tuple(rows)),))


def _compiler(run: QatRun) -> Section:
    kept = run.placement.kept_float if run.placement is not None else {}
    return compiler.section(run.compiled, lambda node: _reason(node, kept))


def _reason(node: str, kept: Mapping[str, str]) -> str:
    name = node.strip("/")
    return next((why for known, why in kept.items() if known == name or name.startswith(f"{known}_")), "")


def _graph(run: QatRun) -> Section:
    onnx = run.exported
    rows = [
        (kind, f"{v.name}: {v.type} {list(v.shape)}")
        for kind, values in (("inputs", onnx.inputs), ("outputs", onnx.outputs))
        for v in values
    ]
    blocks: list[Block] = [Table(("", ""), tuple(rows))]
    if onnx.concats:
        head = ("Concat", "Scales")
        blocks.append(Table(head, tuple((n, ", ".join(f"{s:.6g}" for s in v)) for n, v in onnx.concats.items())))
    return Section("Graph", tuple(blocks))


def _ranges(run: QatRun) -> Section | None:
    if not run.ranges:
        return None
    return Section("Ranges", (Table(ranges.HEAD, tuple(ranges.row_of(facts) for facts in run.ranges)),))


def _provenance(run: QatRun) -> Section:
    data = run.data
    method = run.calibration.method if run.calibration is not None else "-"
    rows = (
        ("Command", run.provenance.command),
        ("Model", f"{run.model.path}, sha256 {run.model.sha256[:16]}…"),
        ("Calibration", f"{method}, {data.what}, {data.images} images"),
        ("Images", f"sha256 {data.sha256[:16]}…"),
        ("Preprocessing", f"{run.preprocess.words} ({run.preprocess.origin})"),
        ("Seed", str(run.recipe["seed"])),
        ("Trained on", run.device),
    )
    return Section("Provenance", (Table(("", ""), rows), *provenance.stage_tables(run.stages_or_call())))
