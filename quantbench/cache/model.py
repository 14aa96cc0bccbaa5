"""CalibrationCache: one calibration file, whatever its dialect, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from quantbench.calibration.ranges import INT8_MAX, Ranges, TensorRange


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a cache. `scale` is amax / 127, whatever the file stores.

    `spelled` is the value as the file spells it ("" where the dialect is binary or structured); `line` counts from 1
    (0 where lines mean nothing). `low` and `high` are the bounds of the file where it holds bounds (an asymmetric
    table), else None.
    """

    name: str
    scale: float
    spelled: str = ""
    line: int = 0
    low: float | None = None
    high: float | None = None

    @property
    def amax(self) -> float:
        """The symmetric range [-amax, amax] that the scale stands for (exact for any float32 scale)."""
        return self.scale * INT8_MAX


@dataclass(frozen=True, slots=True)
class CalibrationCache:
    """A calibration file: the dialect's name, its header as it stands, and the entries in file order.

    `version` is TensorRT's number as the header spells it ("8601"), `algorithm` the calibrator's name. Duplicate
    names are kept: which of them wins is for the reader of the file to judge. `notes` are what the reading left out.
    """

    dialect: str
    entries: tuple[Entry, ...]
    header: str = ""
    version: str = ""
    algorithm: str = ""
    final_newline: bool = True
    details: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ranges(self) -> Ranges:
        """Name to range; of duplicate names the last entry counts, as in a map that a reader fills line by line."""
        method = self.algorithm or self.dialect
        return Ranges({entry.name: TensorRange(entry.amax, method) for entry in self.entries})

    @property
    def by_name(self) -> dict[str, Entry]:
        """Name to entry; of duplicates the last."""
        return {entry.name: entry for entry in self.entries}
