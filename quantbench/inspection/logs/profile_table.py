"""The per-layer profile table that trtexec prints (`=== Profile (N iterations ) ===`)."""

import re
from dataclasses import dataclass, field

_HEADING = re.compile(r"=== Profile \((\d{1,18}) iterations? ?\) ===")
_ROW = re.compile(r"^\s*(?P<name>\S.*?)\s+(?P<numbers>-?\d+(?:\.\d+)?(?:\s+-?\d+(?:\.\d+)?){2,3})\s*$")


@dataclass
class ProfileTable:
    """Rows of (layer, total ms, average ms, share in %), in order; `total_ms` is the table's own total."""

    iterations: int = 0
    rows: list[tuple[str, float, float, float]] = field(default_factory=list)
    total_ms: float | None = None
    _leading: bool = False

    def open(self, message: str) -> None:
        """Begin where `message` is the table's heading; other headings are ignored."""
        found = _HEADING.search(message)
        if found:
            self.iterations = int(found.group(1))
            self.rows.clear()
            self.total_ms = None

    def feed(self, message: str) -> None:
        """Take one row. 10.x puts the numbers first: `Time (ms)  Avg.(ms)  Median(ms)  Time(%)  Layer`."""
        if "Time" in message and "ms" in message and "Layer" in message:
            self._leading = message.rstrip().endswith("Layer")
            return
        if self._leading:
            self._numbers_first(message)
            return
        found = _ROW.match(message)
        if found is None:
            return
        numbers = [float(n) for n in found["numbers"].split()]
        self._add(found["name"], numbers)

    def _numbers_first(self, message: str) -> None:
        parts = message.split(None, 4)
        if len(parts) == 5 and all(re.fullmatch(r"-?\d+(?:\.\d+)?", p) for p in parts[:4]):
            self._add(parts[4].strip(), [float(p) for p in parts[:4]])

    def _add(self, name: str, numbers: list[float]) -> None:
        if name == "Total":
            self.total_ms = numbers[0]
        else:
            self.rows.append((name, numbers[0], numbers[1], numbers[-1]))
