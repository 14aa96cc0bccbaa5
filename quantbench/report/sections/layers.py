"""Where the error comes from: the worst layers, and what stays float."""

from quantbench.records.evaluation import LayerError
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Bars, Block, Section, Table, Text
from quantbench.report.words import by_reason

TITLE = "Layers"
_SHOWN = 10


def section(run: PtqRun) -> Section:
    """The ten layers of lowest SQNR, as bars and with cosine; ranges to look at."""
    errors = [(e, e.sqnr_db) for e in run.evaluation.layers if e.sqnr_db is not None][:_SHOWN]
    blocks: list[Block] = []
    if errors:
        top = max(sqnr for _, sqnr in errors)
        blocks += [
            Text(
                "SQNR and cosine of each layer against FP32 on calibration images, behind the activation that is fused "
                "into it; the error includes what earlier layers brought. A low one is a candidate for --keep-float."
            ),
            Bars(tuple((e.node, max(sqnr, 0.0), f"{sqnr:.1f} dB") for e, sqnr in errors),
                 "The worst ten layers: SQNR, less is worse", top),
            Table(
                ("Layer", "Op", "SQNR dB", "Cosine"),
                tuple((e.node, _op(e), f"{sqnr:.1f}", f"{e.cosine:.4f}") for e, sqnr in errors),
            ),
        ]  # fmt: skip
    warnings = run.calibration.warnings
    if warnings:
        blocks.append(Text("Ranges to look at: " + "; ".join(warnings[:_SHOWN]) + ".", "warning"))
    return Section(TITLE, tuple(blocks))


def kept(run: PtqRun) -> Section:
    """Weighted layers that the placement keeps in float, each with the rule's reason."""
    reasons = run.placement.kept_float
    if not reasons:
        return Section("Kept in float", (Text("No weighted layer is kept in float."),))
    return Section("Kept in float", (Table(("Layers", "Rule and reason"), by_reason(reasons.items())),))


def _op(error: LayerError) -> str:
    return f"{error.op} + {error.behind}" if error.behind else error.op
