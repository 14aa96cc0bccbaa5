"""Look errors up by their text or name."""

import difflib

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


def explain_error(message: str) -> ErrorEntry | None:
    """The entry that `message` (with or without its prefix) belongs to, None for an unknown error."""
    ordered = [*(ERRORS[name] for name in _FIRST), *(e for e in ERRORS.values() if e.name not in _FIRST)]
    return next((entry for entry in ordered if entry.pattern.search(message)), None)


def lookup_error(text: str) -> ErrorEntry | None:
    """An entry by its name or by the text of an error."""
    return ERRORS.get(text.strip()) or explain_error(text)


def similar_errors(text: str) -> list[str]:
    """Names of entries that look like `text`."""
    return difflib.get_close_matches(text.lower(), list(ERRORS), n=3, cutoff=0.5)
