"""Histogram of |x| at 2048 bins up to a known maximum. Counts are integers: merging is exact, order is nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError

BINS = 2048
# Elements handled at a time: small enough for the scratch buffers to stay in the L2 cache.
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts [2048] (int64) of |x| in equal bins over [0, amax]; bin i holds floor(|x| * 2048 / amax) = i.

    `amax` is the exact largest |x| over the whole calibration set (pass one), a float32 value.
    """

    counts: NDArray[np.int64]
    amax: float

    @property
    def bin_width(self) -> float:
        """Width of a bin, in the unit of the tensor."""
        return self.amax / BINS

    @property
    def total(self) -> int:
        """Number of elements seen."""
        return int(self.counts.sum())


def empty(amax: float) -> Histogram:
    """A histogram with no counts up to `amax`."""
    return Histogram(np.zeros(BINS, np.int64), amax)


def merge(first: Histogram, second: Histogram) -> Histogram:
    """Sum of two histograms of one tensor, bit-exact in any order.

    Raises ValueError where the maxima differ: both must come from the same merged pass one.
    """
    if first.amax != second.amax:
        raise ValueError(f"cannot merge histograms up to {first.amax} and {second.amax}")
    return Histogram(first.counts + second.counts, first.amax)


def add(histogram: Histogram, values: NDArray[np.float32], name: str = "tensor") -> None:
    """Count `values` (any shape, float32) into `histogram` in place.

    Raises QuantbenchError naming `name` where a value is NaN or infinite.
    """
    flat = values.reshape(-1)
    if histogram.amax == 0.0:
        histogram.counts[0] += flat.size
        return
    with np.errstate(over="ignore"):
        per_unit = np.float32(BINS / histogram.amax)
    if not np.isfinite(per_unit):
        # A maximum so small that bins per unit overflow float32: subnormal noise around zero.
        histogram.counts[0] += flat.size
        return
    scaled = np.empty(_CHUNK, np.float32)
    index = np.empty(_CHUNK, np.int64)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        x, i = scaled[: part.size], index[: part.size]
        np.abs(part, out=x)
        np.multiply(x, per_unit, out=x)
        np.minimum(x, BINS - 1, out=x)  # the maximum itself, and rounding just above it, belong to the last bin
        with np.errstate(invalid="ignore"):
            np.copyto(i, x, casting="unsafe")
        if i.min(initial=0) < 0:
            raise QuantbenchError(f"tensor {name} holds NaN values; the model or an image is broken")
        histogram.counts[:] += np.bincount(i, minlength=BINS)


def summary(histogram: Histogram, amax: float) -> dict[str, float | int]:
    """What `ranges.json` says of a histogram: elements, observed maximum, share in bin 0, share clipped by `amax`."""
    total = max(histogram.total, 1)
    clipped = 0
    if 0 < amax < histogram.amax:
        clipped = int(histogram.counts[int(np.ceil(amax / histogram.bin_width - 1e-9)) :].sum())
    return {
        "bins": BINS,
        "elements": histogram.total,
        "observed_max": histogram.amax,
        "share_first_bin": float(histogram.counts[0] / total),
        "share_clipped": clipped / total,
    }
