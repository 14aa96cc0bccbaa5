"""Where the error comes from: the worst layers, and what stays float."""

from quantbench.records.run import PtqRun
from quantbench.report.blocks import Bars, Block, Section, Table, Text
from quantbench.report.words import by_reason

_SHOWN = 10


def section(run: PtqRun) -> Section:
    """The ten layers of lowest SQNR, as bars and with cosine; layers kept in float with the rule's reason."""
    errors = run.evaluation.layers[:_SHOWN]
    blocks: list[Block] = []
    if errors:
        top = max(error.sqnr_db for error in errors)
        blocks += [
            Text(
                "SQNR and cosine of each layer's output against FP32 on calibration images; the error includes what "
                "earlier layers brought. A low one is a candidate for --keep-float."
            ),
            Bars(tuple((e.node, max(e.sqnr_db, 0.0), f"{e.sqnr_db:.1f} dB") for e in errors),
                 "The worst ten layers: SQNR, less is worse", top),
            Table(
                ("Layer", "Op", "SQNR dB", "Cosine"),
                tuple((e.node, e.op, f"{e.sqnr_db:.1f}", f"{e.cosine:.4f}") for e in errors),
            ),
        ]  # fmt: skip
    warnings = run.calibration.warnings
    if warnings:
        blocks.append(Text("Ranges to look at: " + "; ".join(warnings[:_SHOWN]) + ".", "warning"))
    kept = run.placement.kept_float
    if kept:
        blocks.append(Table(("Kept in float", "Rule and reason"), by_reason(kept.items())))
    return Section("Layers", tuple(blocks))
