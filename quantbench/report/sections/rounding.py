"""What adaptive rounding did."""

from quantbench.records.run import PtqRun
from quantbench.report.blocks import Section, Table, Text

_SHOWN = 20


def sections(run: PtqRun) -> tuple[Section, ...]:
    """A table of the layers that were rounded for their outputs, the worst first; nothing where none were asked for."""
    found = run.calibration.rounding
    if found is None:
        return ()
    left = f" Past that limit, and rounded to the nearest: {', '.join(found.left_out)}." if found.left_out else ""
    text = (
        f"Adaptive rounding (after arXiv:2004.10568) of the layers whose output is under {found.least_db:g} dB above "
        f"what rounding their weights adds, on {found.images} images, as far as {found.limit_seconds:g} s reach: "
        f"{found.in_words()}.{left}"
    )
    rows = tuple(
        (layer.node, f"{layer.before_db:.1f} dB", f"{layer.after_db:.1f} dB", f"{100 * layer.moved:.1f} %")
        for layer in found.layers[:_SHOWN]
    )
    head = ("Layer", "Nearest", "Adaptive", "Weights moved")
    return (Section("Adaptive rounding", (Text(text), *((Table(head, rows),) if rows else ()))),)
