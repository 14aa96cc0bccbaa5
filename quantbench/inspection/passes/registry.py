"""Look passes up by name."""

import difflib

from quantbench.inspection.passes import conv, pointwise, qdq, shape
from quantbench.inspection.passes.entry import GENERAL, PHASES, PassEntry

PASSES: dict[str, PassEntry] = {
    entry.name: entry for module in (qdq, conv, pointwise, shape) for entry in module.ENTRIES
}  # fmt: skip

# Passes whose log lines carry no pass name, by the kind of the line.
OF_KIND = {
    "merge": "Merging layers", "concat-removal": "Eliminating concatenation", "slice-removal": "Eliminating slice",
    "retarget": "Retargeting", "copy": "Generating copy",
}  # fmt: skip


def lookup(name: str) -> PassEntry | None:
    """The entry of a pass, whatever the case of its letters; None for an unknown one."""
    if name in PASSES:
        return PASSES[name]
    folded = {key.lower(): entry for key, entry in PASSES.items()}
    return folded.get(name.strip().lower())


def similar(name: str) -> list[str]:
    """Names of passes that look like `name`, nearest first."""
    folded = {key.lower(): key for key in PASSES}
    near = difflib.get_close_matches(name.lower(), list(folded), n=5, cutoff=0.5)
    inside = [key for low, key in folded.items() if name.lower() in low]
    return list(dict.fromkeys([folded[n] for n in near] + inside))


def phase_of(name: str) -> int:
    """The Q/DQ phase (1 to 7) that a pass belongs to; 0 for passes outside them and for unknown ones."""
    entry = PASSES.get(name)
    return entry.phase if entry is not None else GENERAL


def phase_of_heading(message: str) -> int:
    """The phase that a log line opens, 0 for lines that open none."""
    text = message.strip()
    return next((number for number, (_, heading) in PHASES.items() if text == heading), GENERAL)
