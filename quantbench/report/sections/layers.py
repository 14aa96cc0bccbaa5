"""Where the error comes from: the worst layers, and what stays float."""

from collections.abc import Mapping
from typing import Any

from quantbench.report.blocks import Bars, Block, Section, Table, Text
from quantbench.report.words import by_reason

_SHOWN = 10


def section(run: Mapping[str, Any]) -> Section:
    """The ten layers of lowest SQNR, as bars and with cosine; layers kept in float with the rule's reason."""
    errors = [e for e in run["evaluation_result"]["layers"] if e["sqnr_db"] is not None][:_SHOWN]
    blocks: list[Block] = []
    if errors:
        top = max(error["sqnr_db"] for error in errors)
        blocks += [
            Text(
                "SQNR and cosine of each layer against FP32 on calibration images, behind the activation that is fused "
                "into it; the error includes what earlier layers brought. A low one is a candidate for --keep-float."
            ),
            Bars(tuple((e["node"], max(e["sqnr_db"], 0.0), f"{e['sqnr_db']:.1f} dB") for e in errors),
                 "The worst ten layers: SQNR, less is worse", top),
            Table(
                ("Layer", "Op", "SQNR dB", "Cosine"),
                tuple((e["node"], _op(e), f"{e['sqnr_db']:.1f}", f"{e['cosine']:.4f}") for e in errors),
            ),
        ]  # fmt: skip
    warnings = run["range_warnings"]
    if warnings:
        blocks.append(Text("Ranges to look at: " + "; ".join(warnings[:_SHOWN]) + ".", "warning"))
    kept = run["placement"]["kept_float"]
    if kept:
        blocks.append(Table(("Kept in float", "Rule and reason"), by_reason(kept.items())))
    return Section("Layers", tuple(blocks))


def _op(error: Mapping[str, Any]) -> str:
    return f"{error['op']} + {error['behind']}" if error["behind"] else str(error["op"])
