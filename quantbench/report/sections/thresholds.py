"""What calibrator `auto` compared and took."""

from quantbench.records.judged import Beside, Judged
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Section, Table, Text


def sections(run: PtqRun) -> tuple[Section, ...]:
    """mse beside minmax on the samples that both ran on; nothing where the method was named."""
    judged = run.calibration.judged
    if judged is None:
        return ()
    searched = (
        f"{judged.searched} of {judged.samples} calibration samples hold nearly all energy of an output; mse's "
        f"thresholds are searched over the values of these. "
        if judged.few
        else ""
    )
    text = Text(f"{searched}{_why(judged)}")
    if not judged.beside:
        return (Section("Thresholds, chosen by auto", (text,)),)
    head = ("Biases", "Samples", "mse", "minmax", "minmax leads by")
    table = Table(head, tuple(_row(each) for each in judged.beside))
    return (Section("Thresholds, chosen by auto", (text, table)),)


def _why(judged: Judged) -> str:
    if not judged.beside:
        return f"No output could be compared, so {judged.taken} is taken."
    return (
        f"{judged.taken} is taken. SQNR of the output that comes out worst with mse; minmax is taken where it leads "
        f"there and in the mean of the samples, in dB and weighted by their energy, by over 1.645 standard errors."
    )


def _row(found: Beside) -> tuple[str, str, str, str, str]:
    biases = "corrected" if found.corrected else "as they are"
    lead = f"{found.lead_db:+.2f} ± {found.error_db:.2f} dB"
    return biases, str(found.samples), f"{found.mse_db:.2f} dB", f"{found.minmax_db:.2f} dB", lead
