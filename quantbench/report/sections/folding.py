"""What equalization and SmoothQuant changed before the network was quantized, and what that was worth."""

from collections import Counter

from quantbench.records.folded import NAMES, Folded, FoldTrial
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.words import capitalized

_MOST = 12


def sections(run: PtqRun) -> tuple[Section, ...]:
    """Trials, the sites with the largest gains, and why layers were passed by; one line where nothing was worth a
    trial, nothing where neither method was asked for."""
    folded = run.calibration.folded
    if folded is None:
        return ()
    blocks: list[Block] = [Text(folded.in_words() + ".")]
    if folded.gains:
        took = f" All that took {folded.seconds:.1f} s." if folded.seconds is not None else ""
        blocks.append(Text(f"{_looked(folded)}.{took}"))
    if folded.trials:
        head = ("Network", "Worst output, norms", "Worst output, SQNR")
        blocks.append(Text(f"Quantized and held against float on {folded.samples} calibration samples kept for that:"))
        blocks.append(Table(head, tuple(_row(trial) for trial in folded.trials)))
    if folded.taken:
        blocks += _sites(folded)
    why = Counter(entry.reason for entry in folded.passed_by)
    if why and (folded.taken or folded.trials):
        rows = tuple((reason, str(count)) for reason, count in why.most_common(_MOST))
        blocks.append(Table(("Passed by, because", "layers"), rows))
    return (Section("Channels scaled before quantizing", tuple(blocks)),)


def _looked(folded: Folded) -> str:
    """What layers promised, and on how many samples that was found."""
    told = (
        f"{NAMES[gain.method]} takes {gain.gain_db:.2f} dB off the noise of a layer's output, in the mean over the "
        f"quantized layers{', roughly' if gain.roughly else ''} ({gain.samples} samples)"
        for gain in folded.gains
    )
    return capitalized("; ".join(told))


def _row(trial: FoldTrial) -> tuple[str, ...]:
    name = " and ".join(NAMES[method] for method in trial.methods) or "as it is"
    return (name, *("-" if db is None else f"{db:.2f} dB" for db in (trial.norms_db, trial.sqnr_db)))


def _sites(folded: Folded) -> list[Block]:
    sites = sorted((site for site in folded.sites if site.method in folded.taken), key=lambda site: -site.gain_db)
    rows = tuple(
        (NAMES[site.method], site.readers[0] + (f" and {len(site.readers) - 1} more" if site.readers[1:] else ""),
         f"{site.alpha:g}", f"{site.gain_db:.1f} dB", f"{site.spread:.1f}")
        for site in sites[:_MOST]
    )  # fmt: skip
    head = ("By", "Read by", "Alpha", "Less noise there", "Largest scale over least")
    return [Text("The largest gains, each at the outputs of the layers that read the channels:"), Table(head, rows)]
