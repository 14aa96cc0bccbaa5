"""How the integers of a tensor will lie over its range: what a threshold search counts levels by.

TensorRT wants 127 levels on either side of zero. onnxruntime's kernels on a CPU take any zero point, so that a tensor
that cannot get far below zero has all 256 levels between its lower end and amax (`quantbench.qdq.affine`). The lower
end is known before the search; what is searched is the upper one.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SYMMETRIC_TOP, ALL_STEPS = 127, 255


@dataclass(frozen=True, slots=True)
class Layout:
    """`low`: the lower end of the range (at most 0, unit of the tensor), held whatever the upper one; -inf, or as far
    from zero as the upper end or farther: 127 levels on either side."""

    low: float = -math.inf

    def scaled(self, factor: float) -> "Layout":
        """The same in another unit, which `factor` times a value is in."""
        return Layout(self.low * factor) if self.low else self

    def steps(self, amax: NDArray[Any]) -> NDArray[Any]:
        """Distance of two levels for each upper end `amax` (> 0), in its unit and dtype."""
        symmetric: NDArray[Any] = amax / SYMMETRIC_TOP
        if -self.low >= np.max(amax):
            return symmetric
        return np.where(amax > -self.low, (amax - self.low) / ALL_STEPS, symmetric).astype(amax.dtype)

    def tops(self, amax: NDArray[Any]) -> NDArray[np.int32]:
        """The level at the upper end, counted from that of zero, for each `amax` (> 0)."""
        plain = np.full(np.shape(amax), SYMMETRIC_TOP, np.int32)
        if -self.low >= np.max(amax):
            return plain
        return np.where(amax > -self.low, ALL_STEPS - self.zero_points(amax), plain)

    def zero_points(self, amax: NDArray[Any]) -> NDArray[np.int32]:
        """Levels under that of zero, for each `amax` (over -low). The lowest one lies at `low` or under it: a HardSwish
        gives 0 for all under -3, and for -2.97 it does not, which in an average over positions adds up."""
        ends = np.maximum(np.asarray(amax, np.float64), -self.low)
        if not math.isfinite(self.low):
            return np.zeros(np.shape(amax), np.int32)
        found = np.ceil(-self.low / ((ends - self.low) / ALL_STEPS) - 1e-6)
        return np.minimum(found, ALL_STEPS).astype(np.int32)


SYMMETRIC = Layout()
