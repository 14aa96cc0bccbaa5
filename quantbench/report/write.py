"""report.md and report.html of a PTQ run, and the few lines that the terminal shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quantbench.atomic import write_text
from quantbench.report import html, markdown
from quantbench.report.blocks import Section
from quantbench.report.sections import accuracy, compiler, headline, latency, layers, prediction, provenance
from quantbench.report.words import decibel, percent, points

_SECTIONS = (headline, accuracy, prediction, compiler, latency, layers, provenance)


def write_reports(folder: Path, run: Mapping[str, Any], extra: Sequence[Section] = ()) -> None:
    """Write report.md and report.html into `folder`. `run` is what run.json holds; `extra` goes before the end."""
    sections = [module.section(run) for module in _SECTIONS]
    sections[-1:-1] = extra
    title = f"{run['model']['name']} in INT8"
    subtitle = (
        f"Post-training quantization with {run['method']} ranges from {run['data']['images']} images, {run['time']}"
    )
    write_text(folder / "report.md", markdown.render(title, subtitle, sections))
    write_text(folder / "report.html", html.render(title, subtitle, sections))


def _sqnr(result: Mapping[str, Any]) -> str:
    """The worst output's, for a good one beside it helps nobody."""
    errors = [error for error in result["sqnr"] if "value" in error["sqnr"]]
    if not errors:
        return "SQNR of the outputs: not measurable: " + "; ".join(
            f"{accuracy.named(error)}: {error['sqnr']['not_measurable']}" for error in result["sqnr"]
        )
    least = min(errors, key=lambda error: float(error["sqnr"]["value"]))
    where = f" of {accuracy.named(least)}, the lowest of {len(errors)}" if len(errors) > 1 else " of the output"
    return f"SQNR{where}: {decibel(least['sqnr'])}"


def summary_lines(folder: Path, run: Mapping[str, Any]) -> list[str]:
    """What a user reads in the terminal when a run is done."""
    result, placement = run["evaluation_result"], run["placement"]
    outputs = result["outputs"]
    lines = [
        f"{len(placement['quantized'])} of {len(placement['weighted'])} weighted layers quantized ({run['method']})"
    ]
    if "agreement" in outputs:
        agreement = outputs["agreement"]
        lines.append(f"same answer as FP32: {percent(agreement)} of {agreement['images']} images")
    if "map_change" in outputs:
        a, b = (f"{100 * outputs[key]['value']:.1f} %" for key in ("map_float", "map_int8"))
        lines.append(f"mAP50-95: {a} in FP32, {b} in INT8: {points(outputs['map_change'])}")
    if "boxes_kept" in outputs:
        lines.append(f"boxes of FP32 that INT8 finds too: {percent(outputs['boxes_kept'])}")
    elif "boxes" in result:
        lines.append("FP32 finds no box in these images, taking the output as boxes; see the report")
    lines.append(_sqnr(result))
    if "latency" in result:
        a, b = (result["latency"][key]["median_ms"] for key in ("float", "int8"))
        lines.append(f"onnxruntime on this CPU: {a:.1f} ms in FP32, {b:.1f} ms in INT8 ({a / b:.2f} x)")
    if run.get("compiler"):
        lines.append(compiler.summary(run["compiler"]))
    return [*lines, f"report: {folder / 'report.html'}"]
