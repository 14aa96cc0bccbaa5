"""Look errors up by their text or name."""

import difflib
import re

from quantbench.inspection.errors import kernels, machine, parsing, quantization, shapes
from quantbench.inspection.errors.entry import ErrorEntry

# The heading on the page of each file's entries.
SECTIONS: dict[str, tuple[ErrorEntry, ...]] = {
    "Quantization": quantization.ENTRIES,
    "Kernels and memory": kernels.ENTRIES,
    "Reading the model": parsing.ENTRIES,
    "Shapes and profiles": shapes.ENTRIES,
    "Engines, versions and GPUs": machine.ENTRIES,
}
ERRORS: dict[str, ErrorEntry] = {entry.name: entry for entries in SECTIONS.values() for entry in entries}
# Entries that say more than others which also fit.
_FIRST = ("foreign-node-no-implementation", "calibrator-illegal-memory", "candidates-empty", "plugin-not-found")


_WORD = re.compile(r"[a-z0-9]+")


def explain_error(message: str) -> ErrorEntry | None:
    """The entry that `message` (with or without its prefix) belongs to, None for an unknown error."""
    ordered = [*(ERRORS[name] for name in _FIRST), *(e for e in ERRORS.values() if e.name not in _FIRST)]
    return next((entry for entry in ordered if entry.pattern.search(message)), None)


def lookup_error(text: str) -> ErrorEntry | None:
    """An entry by its name, by the text of an error, or by some words of one, as people remember it."""
    return ERRORS.get(text.strip()) or explain_error(text) or _remembered(text)


def _remembered(text: str) -> ErrorEntry | None:
    """The one entry whose text as printed, or else with its causes, holds all words of `text`; None for one word, and
    where several do."""
    words = set(_WORD.findall(text.lower()))
    printed = {entry.name: entry.printed for entry in ERRORS.values()}
    whole = {entry.name: " ".join((entry.printed, entry.name, *entry.causes)) for entry in ERRORS.values()}
    for texts in (printed, whole):
        fitting = [name for name, told in texts.items() if words <= set(_WORD.findall(told.lower()))]
        if len(words) > 1 and len(fitting) == 1:
            return ERRORS[fitting[0]]
    return None


def similar_errors(text: str) -> list[str]:
    """Names of entries that look like `text`."""
    return difflib.get_close_matches(text.lower(), list(ERRORS), n=3, cutoff=0.5)
