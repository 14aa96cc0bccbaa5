"""What calibrator `auto` chose among."""

from quantbench.records.judged import JudgedDb
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Section, Table, Text


def sections(run: PtqRun) -> tuple[Section, ...]:
    """A table of the candidates, each with its SQNR on the judged samples; nothing where the method was named."""
    judged = run.calibration.judged
    if judged is None:
        return ()
    rows = tuple(
        (
            f"{candidate.method} (taken)" if candidate.method == judged.taken else candidate.method,
            *_decibels(candidate.first),
            *_decibels(candidate.finished),
        )
        for candidate in judged.candidates
    )
    biases = ", others than those that biases were corrected on" if judged.corrected and judged.apart else ""
    if judged.corrected and not judged.apart:
        biases = ", which biases were corrected on too: give 80 or more for a judgement apart"
    text = (
        f"The worst output on {judged.samples} of the calibration samples{biases}: dB by the norms of the samples, and "
        f"SQNR. All have their ranges from the same histograms; minmax and the best other were finished, biases and "
        f"all, and judged again: the other is taken where it leads by norms and is not behind by SQNR."
    )
    head = ("Method", "First round, norms", "First round, SQNR", "Finished, norms", "Finished, SQNR")
    return (Section("Thresholds, chosen by auto", (Text(text), Table(head, rows))),)


def _decibels(found: JudgedDb | None) -> tuple[str, str]:
    return ("-", "-") if found is None else (f"{found.norms:.2f} dB", f"{found.sqnr:.2f} dB")
