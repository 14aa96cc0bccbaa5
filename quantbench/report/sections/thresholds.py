"""What calibrator `auto` chose among."""

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
            _decibel(candidate.first_db),
            _decibel(candidate.judged_db),
        )
        for candidate in judged.candidates
    )
    biases = ", others than those that biases were corrected on" if judged.corrected and judged.apart else ""
    if judged.corrected and not judged.apart:
        biases = ", which biases were corrected on too: give 80 or more for a judgement apart"
    text = (
        f"dB of the worst output by its mean norms, on {judged.samples} of the calibration samples{biases}. All have "
        f"their ranges from the same histograms; minmax and the best other were finished and judged again."
    )
    head = ("Method", "First round, biases as they are", "Finished")
    return (Section("Thresholds, chosen by auto", (Text(text), Table(head, rows))),)


def _decibel(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} dB"
