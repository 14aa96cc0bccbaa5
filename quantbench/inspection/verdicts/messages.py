"""Warnings, errors and calibration lines of the build, in the builder's own words."""

from collections import Counter

from quantbench.inspection.errors.entry import ErrorEntry
from quantbench.inspection.errors.registry import explain_error
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import Build
from quantbench.inspection.logs.lexer import Event
from quantbench.inspection.verdicts.verdict import Item, Verdict, count

# Warnings that a good build has too; `explain` tells of them.
_HARMLESS = frozenset({"int64-weights", "calibrator-not-used", "missing-scale", "newer-ir"})


def _explained(build: Build) -> list[Verdict]:
    """What the errors mean; of the notices (warnings and others that go with a build that succeeds) those that cost."""
    found: dict[str, tuple[ErrorEntry, bool, list[Event]]] = {}
    for events, fatal in ((build.errors, True), (build.warnings, False)):
        for event in events:
            entry = explain_error(event.message)
            if entry is not None and (fatal or entry.name not in _HARMLESS):
                found.setdefault(entry.name, (entry, fatal, []))[2].append(event)
    return [
        Verdict(
            f"error_{entry.name}", "problem" if fatal else "note", f"{entry.name}: {entry.meaning}",
            "Causes, the likeliest first: " + "; ".join(f"{n}. {c}" for n, c in enumerate(entry.causes, 1)) + ".",
            f"{entry.command}. See {entry.url}", _items(events),
        )
        for entry, fatal, events in found.values()
    ]  # fmt: skip


def _items(events: list[Event]) -> tuple[Item, ...]:
    first: dict[str, int] = {}
    times: Counter[str] = Counter()
    for event in events:
        text = event.message.strip()[:300]
        first.setdefault(text, event.line)
        times[text] += 1
    more = {text: f", {n} times" if n > 1 else "" for text, n in times.items()}
    return tuple(Item(text, f"line {line}{more[text]}") for text, line in first.items())


def judge(inspection: Inspection) -> list[Verdict]:
    """Errors are a problem, the rest is a note; the same words are counted, not repeated."""
    build = inspection.build
    if build is None:
        return []
    found = _explained(build)
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
