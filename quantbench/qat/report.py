"""report.md and report.html of a qat-export run, and the lines that the terminal shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantbench.atomic import write_text
from quantbench.report import html, markdown
from quantbench.report.blocks import Block, Cards, Section, Table, Text
from quantbench.report.sections import compiler, prediction
from quantbench.report.words import decibel, percent, size


def write_reports(folder: Path, run: Mapping[str, Any]) -> None:
    """Write both reports; `run` is what run.json holds."""
    sections = [s for s in (_headline(run), _agreement(run), _training(run), prediction.section(run),
                            _compiler(run), _graph(run), _ranges(run), _provenance(run)) if s is not None]  # fmt: skip
    title = f"{run['model']['name']} with Q/DQ"
    subtitle = f"quantbench qat-export, {run['time']}"
    write_text(folder / "report.md", markdown.render(title, subtitle, sections))
    write_text(folder / "report.html", html.render(title, subtitle, sections))


def summary_lines(folder: Path, run: Mapping[str, Any]) -> list[str]:
    """What a user reads in the terminal when a run is done."""
    onnx, against = run["onnx"], run["against_torch"]
    lines = [
        f"{folder / onnx['file']}: {len(onnx['quantized'])} of {len(onnx['weighted'])} weighted layers quantized, "
        f"{size(onnx['bytes'])}, opset {onnx['opset']}",
        f"onnxruntime against torch: {decibel(against['sqnr_db'])}, largest difference {against['max_difference']:.3g} "
        f"of {against['largest_output']:.3g}{_agreed(against)}",
    ]
    if run.get("training"):
        lines.append(f"fine-tuned: best epoch {run['training']['best_epoch'] + 1} of {run['training']['epochs']}")
    if run.get("compiler"):
        lines.append(compiler.summary(run["compiler"]))
    return [*lines, f"{run['seconds']:.0f} s; report: {folder / 'report.html'}"]


def _agreed(against: Mapping[str, Any]) -> str:
    if "boxes" in against:
        return f", {against['boxes']['found']} of {against['boxes']['reference']} boxes alike"
    return f", same answer on {percent(against['agreement'])}" if "agreement" in against else ""


def _headline(run: Mapping[str, Any]) -> Section:
    onnx = run["onnx"]
    cards = [
        (
            f"{len(onnx['quantized'])} of {len(onnx['weighted'])}",
            "weighted layers quantized",
            "Q/DQ on input and weight",
        ),
        (size(onnx["bytes"]), onnx["file"], f"opset {onnx['opset']}"),
        (
            decibel(run["against_float"]["sqnr_db"]).partition(" (")[0],
            "SQNR against float",
            f"{run['data']['images']} images calibrated",
        ),
    ]
    blocks: list[Block] = [Cards(tuple(cards))]
    if run.get("quantized_by"):
        blocks.append(Text(f"The checkpoint was quantized by {run['quantized_by']} and exported as it is.", "note"))
    if "crops of photos" in run["data"]["what"]:
        blocks.append(Text(f"Calibrated on {run['data']['what']}: ranges of your own images will differ.", "warning"))
    return Section("", tuple(blocks))


def _agreement(run: Mapping[str, Any]) -> Section:
    rows = []
    for label, key in (("torch, quantized", "against_torch"), ("torch, float", "against_float")):
        facts = run[key]
        alike = f"{facts['boxes']['found']} of {facts['boxes']['reference']} boxes" if "boxes" in facts else (
            percent(facts["agreement"]) if "agreement" in facts else "-")  # fmt: skip
        rows.append((label, str(facts["images"]), f"{facts['max_difference']:.4g}", decibel(facts["sqnr_db"]), alike))
    head = ("ONNX against", "Images", "Largest difference", "SQNR", "Alike")
    note = Text(
        "Both sides round to the same steps, but sum in another order: a value next to the border of two steps can "
        "fall on either side, and the difference grows from layer to layer up to the size of quantization noise."
    )
    return Section("The exported model against torch", (Table(head, tuple(rows)), note))


def _training(run: Mapping[str, Any]) -> Section | None:
    facts = run.get("training")
    if not facts:
        return None
    rows = [("Epochs", str(facts["epochs"])), ("Best epoch", str(facts["best_epoch"] + 1))]
    rows += [(f"Top-1, {name}", percent(value)) for name, value in facts.get("top1", {}).items()]
    history = facts["history"]
    if history and isinstance(history[0], dict):
        rows += [(f"Epoch {int(h['epoch']) + 1}: mAP50-95", f"{h.get('metrics/mAP50-95(B)', 0):.4f}") for h in history]
    else:
        rows += [(f"Epoch {i + 1}: top-1", f"{value:.4f}") for i, value in enumerate(history)]
    return Section("Fine-tuning", (Table(("", ""), tuple(rows)),))


def _compiler(run: Mapping[str, Any]) -> Section:
    kept = run.get("placement", {}).get("kept_float", {})
    return compiler.section(run, lambda node: _reason(node, kept))


def _reason(node: str, kept: Mapping[str, str]) -> str:
    name = node.strip("/")
    return next((why for known, why in kept.items() if known == name or name.startswith(f"{known}_")), "")


def _graph(run: Mapping[str, Any]) -> Section:
    onnx = run["onnx"]
    rows = [(kind, f"{v['name']}: {v['type']} {v['shape']}") for kind in ("inputs", "outputs") for v in onnx[kind]]
    blocks: list[Block] = [Table(("", ""), tuple(rows))]
    if onnx["concats"]:
        head = ("Concat", "Scales")
        blocks.append(Table(head, tuple((n, ", ".join(f"{s:.6g}" for s in v)) for n, v in onnx["concats"].items())))
    return Section("Graph", tuple(blocks))


def _ranges(run: Mapping[str, Any]) -> Section | None:
    if not run.get("ranges"):
        return None
    rows = tuple(
        (r["tensor"], f"{r['amax']:.5g}", f"{r['observed_max']:.5g}", f"{100 * r['share_clipped']:.3f} %")
        for r in run["ranges"]
    )
    return Section("Ranges", (Table(("Tensor", "amax", "Largest seen", "Clipped"), rows),))


def _provenance(run: Mapping[str, Any]) -> Section:
    data = run["data"]
    rows = [
        ("Command", run["command"]), ("Time (UTC)", run["time"]),
        ("Model", f"{run['model']['path']}, sha256 {run['model']['sha256'][:16]}…"),
        ("Calibration", f"{run.get('method', '-')}, {data['what']}, {data['images']} images"),
        ("Images", f"sha256 {data['sha256'][:16]}…"),
        ("Preprocessing", f"{data['preprocess_words']} ({data['preprocess_origin']})"), ("Seed", str(run["seed"])),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())),
        ("Machine", f"{run['machine']['processor']}, {run['machine']['cores']} cores; trained on {run['device']}"),
    ]  # fmt: skip
    return Section("Provenance", (Table(("", ""), tuple(rows)),))
