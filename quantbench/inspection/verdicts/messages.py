"""Warnings, errors and calibration lines of the build, in the builder's own words."""

from collections import Counter

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict, count


def judge(inspection: Inspection) -> list[Verdict]:
    """Errors are a problem, the rest is a note; the same words are counted, not repeated."""
    build = inspection.build
    if build is None:
        return []
    found: list[Verdict] = []
    if build.calibration:
        items = tuple(Item(e.message.strip()[:300], f"line {e.line}") for e in build.calibration[:20])
        found.append(
            Verdict("calibration", "note", "What the build says of calibration",
                    "A network with Q/DQ needs no calibrator; one without needs a scale for every tensor.", "", items)
        )  # fmt: skip
    for events, one, severity in ((build.errors, "error", "problem"), (build.warnings, "warning", "note")):
        if not events:
            continue
        lines: dict[str, int] = {}
        times: Counter[str] = Counter()
        for event in events:
            text = event.message.strip()
            lines.setdefault(text, event.line)
            times[text] += 1
        items = tuple(
            Item(text[:600], f"line {line}" + (f", {times[text]} times" if times[text] > 1 else ""))
            for text, line in lines.items()
        )
        found.append(
            Verdict(f"{one}s", "problem" if severity == "problem" else "note", count(len(events), one),
                    "In TensorRT's own words.",
                    "The first error is the one to mend: later ones often follow from it." if len(lines) > 1
                    and severity == "problem" else "", items)
        )  # fmt: skip
    return found
