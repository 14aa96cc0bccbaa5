"""Two calibration files side by side: which tensors differ, by what ratio, and which only one of them has."""

import math
from dataclasses import dataclass

from quantbench.cache.model import CalibrationCache


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor of both files. `ratio` is amax of the second over amax of the first (NaN where it has no meaning)."""

    name: str
    first: float
    second: float

    @property
    def ratio(self) -> float:
        """second / first; 1 for two equal values, zeros included, NaN for a NaN on either side."""
        if self.first == self.second:
            return 1.0
        if math.isnan(self.first) or math.isnan(self.second) or self.first == 0:
            return math.nan if math.isnan(self.first + self.second) else math.inf
        return self.second / self.first

    @property
    def distance(self) -> float:
        """|log2 of the ratio|, infinite where one side alone is 0 or infinite, for a NaN, and for a change of sign."""
        if self.first == self.second:
            return 0.0
        if not (math.isfinite(self.first) and math.isfinite(self.second)):
            return math.inf
        if self.first == 0 or self.second == 0 or (self.first > 0) != (self.second > 0):
            return math.inf
        low, high = sorted((abs(self.first), abs(self.second)))
        far = math.log2(high) - math.log2(low)
        # The quotient alone tells near values apart, the logarithms alone do not over- or underflow.
        return math.log2(high / low) if far < 1 else far


@dataclass(frozen=True, slots=True)
class CacheDiff:
    """`common` is ranked from the largest distance down; the others in file order."""

    common: tuple[Difference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


def diff(first: CalibrationCache, second: CalibrationCache) -> CacheDiff:
    """Compare by name; of duplicate names the last entry counts."""
    a, b = first.by_name, second.by_name
    common = [Difference(name, entry.amax, b[name].amax) for name, entry in a.items() if name in b]
    return CacheDiff(
        tuple(sorted(common, key=lambda d: -d.distance)),
        tuple(name for name in a if name not in b),
        tuple(name for name in b if name not in a),
    )
