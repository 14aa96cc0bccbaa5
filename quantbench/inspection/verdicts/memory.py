"""Memory that the build states."""

import re

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict

_TOTAL = re.compile(r"^(Total Activation Memory|Total Weights Memory|Max Scratch Memory|Total Device Persistent Memory|"
                    r"Total Host Persistent Memory|Total Scratch Memory): ?(\d{1,18})(?: bytes)?$")  # fmt: skip
_MIB = 1024 * 1024
_TITLE = {"Total Activation Memory": "activations", "Total Weights Memory": "weights"}


def judge(inspection: Inspection) -> list[Verdict]:
    """Totals of the build, and the layers with the most scratch memory."""
    build = inspection.build
    if build is None:
        return []
    totals = totals_of(build.memory)
    if not totals:
        return []
    items = [Item(name, _size(size)) for name, size in totals.items() if size]
    scratch = sorted(((s.get("scratch", 0), n) for n, s in build.layer_memory.items()), reverse=True)
    items += [Item(name, f"{_size(size)} of scratch memory") for size, name in scratch[:5] if size > _MIB]
    parts = [f"{word} {_size(totals[name])}" for name, word in _TITLE.items() if name in totals]
    title = "Memory: " + (", ".join(parts) if parts else f"{len(totals)} figures")
    # Not summed: newer versions count scratch memory inside the activations.
    return [Verdict("memory", "note", title, "As the builder states it.", "", tuple(items))]


def _size(nbytes: int) -> str:
    return f"{nbytes / _MIB:.1f} MiB" if nbytes >= _MIB / 10 else f"{nbytes / 1024:.1f} KiB"


def totals_of(lines: list[str]) -> dict[str, int]:
    """Name to bytes; the last statement of each counts."""
    return {m.group(1): int(m.group(2)) for line in lines if (m := _TOTAL.match(line))}
