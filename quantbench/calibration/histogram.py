"""Histogram of |x| on a grid whose bins are 2^e wide: one pass, no maximum known beforehand, exact whatever the order.

The exponent e is the least with which 4096 bins reach past the largest |x|, so 2048 to 4096 of them are in use. When a
larger value comes e grows and neighbouring bins are added. Grids of powers of two nest (a bin of one is whole bins of
any finer one), and multiplying by 2^-e is exact, so the counts are those of the final grid from the start: the same
for any order, any batches and any split among processes. The exact maximum is kept beside.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError

BINS = 4096
_BITS = 12
# 2^-MIN_EXPONENT must be a float32; what is smaller than such a bin is noise around zero.
MIN_EXPONENT = -126
# Bins over [0, amax] in which threshold searches work, whatever the grid.
LEVEL_BINS = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts [4096] (int64) of |x| of one tensor: bin i holds i * 2^exponent <= |x| < (i + 1) * 2^exponent.

    `amax` is the exact largest |x| (a float32 value). Where the tensor held infinity or NaN it is that, and nothing is
    counted.
    """

    counts: NDArray[np.int64]
    exponent: int
    amax: float

    @property
    def bin_width(self) -> float:
        """Width of a bin, in the unit of the tensor: 2^exponent."""
        return float(2.0**self.exponent)

    @property
    def total(self) -> int:
        """Number of elements seen."""
        return int(self.counts.sum())

    @property
    def broken(self) -> bool:
        """Whether a value was infinite or NaN."""
        return not np.isfinite(self.amax)

    def levels(self) -> NDArray[np.float64]:
        """Counts [2048] (float64) in equal bins over [0, amax], for searches whose answer depends on bins that end at
        the maximum. A bin of the grid that such an edge cuts is shared out in proportion, unless it stands alone: then
        it is one value rather than a stretch of them, and goes whole to where its middle lies.
        """
        if self.amax == 0:
            zeros = np.zeros(LEVEL_BINS)
            zeros[0] = self.counts[0]
            return zeros
        reach = self.amax / self.bin_width
        filled = np.pad(self.counts > 0, 1)
        alone = filled[1:-1] & ~filled[:-2] & ~filled[2:]
        edges = np.arange(LEVEL_BINS + 1) * (reach / LEVEL_BINS)
        edges[-1] = reach
        # The bin of the grid that holds the maximum ends there.
        counted = np.concatenate(([0.0], np.cumsum(np.where(alone, 0, self.counts), dtype=np.float64)))
        shared: NDArray[np.float64] = np.diff(np.interp(edges, np.minimum(np.arange(BINS + 1), reach), counted))
        single = np.flatnonzero(alone)
        middle = np.minimum(single + 0.5, reach) * (LEVEL_BINS / reach)
        target = np.minimum(middle.astype(np.int64), LEVEL_BINS - 1)
        np.add.at(shared, target, self.counts[single])
        return shared


def empty() -> Histogram:
    """A histogram that has seen nothing."""
    return Histogram(np.zeros(BINS, np.int64), MIN_EXPONENT, 0.0)


def exponent_for(amax: float) -> int:
    """The least exponent with which 4096 bins of 2^exponent reach past `amax` (finite)."""
    return max(int(np.frexp(amax)[1]) - _BITS, MIN_EXPONENT) if amax > 0 else MIN_EXPONENT


def fold(counts: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """The same counts [..., 4096] on a grid whose bins are 2^steps times as wide."""
    if steps == 0:
        return counts
    folded = np.zeros_like(counts)
    if steps >= _BITS:
        folded[..., 0] = counts.sum(axis=-1)
    else:
        folded[..., : BINS >> steps] = counts.reshape(*counts.shape[:-1], -1, 1 << steps).sum(axis=-1)
    return folded


def merge(first: Histogram, second: Histogram) -> Histogram:
    """Histogram of both parts together, bit-exact in any order and grouping."""
    if first.broken or second.broken:
        worst = np.nan if np.isnan(first.amax) or np.isnan(second.amax) else np.inf
        return Histogram(np.zeros(BINS, np.int64), MIN_EXPONENT, float(worst))
    exponent = max(first.exponent, second.exponent)
    counts = fold(first.counts, exponent - first.exponent) + fold(second.counts, exponent - second.exponent)
    return Histogram(counts, exponent, max(first.amax, second.amax))


def require_finite(histogram: Histogram, name: str) -> None:
    """Raise QuantbenchError, naming tensor `name`, where it held infinity or NaN."""
    if histogram.broken:
        reached = "holds NaN values" if np.isnan(histogram.amax) else "reaches infinity"
        raise QuantbenchError(f"tensor {name} {reached}; the model overflows on a calibration image, or an image does")


@dataclass(frozen=True, slots=True)
class Shares:
    """What symmetric INT8 with a range does to the values of a tensor, as shares of all of them.

    `clipped`: beyond the range; `zero`: at most half of 1 of its 127 steps large, which round to zero, exact
    zeros with them; `first`: in the histogram's first bin, which are zero, or as good as that.
    """

    clipped: float
    zero: float
    first: float

    @property
    def lost(self) -> float:
        """Of the values that are not zero, the share that becomes zero."""
        return (self.zero - self.first) / (1 - self.first) if self.first < 1 else 0.0


def shares(histogram: Histogram, amax: float, levels: int = 127) -> Shares:
    """Shares of the values for the range [-amax, amax], to whole bins: one that the threshold cuts is not clipped, one
    whose middle lies within half a step is zero, the first always."""
    total, counts = max(histogram.total, 1), histogram.counts
    clipped = 0
    if 0 < amax < histogram.amax:
        clipped = int(counts[int(np.ceil(amax / histogram.bin_width - 1e-9)) :].sum())
    small = int(np.floor(min(amax / (2 * levels) / histogram.bin_width, BINS) + 0.5))
    zero = int(counts[: max(small, 1)].sum())
    return Shares(clipped / total, zero / total, int(counts[0]) / total)


def summary(histogram: Histogram, amax: float) -> dict[str, float | int]:
    """What `ranges.json` says of a histogram: elements, observed maximum, and the shares that `amax` makes."""
    found = shares(histogram, amax)
    return {
        "bins": BINS,
        "bin_width": histogram.bin_width,
        "elements": histogram.total,
        "observed_max": histogram.amax,
        "share_first_bin": found.first,
        "share_clipped": found.clipped,
        "share_zero": found.zero,
    }
