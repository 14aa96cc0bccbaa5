"""What the formula misses, learnt from shapes nearby: a Gaussian process over the logs of sizes.

At a shape that was timed it gives back that time (look-up); far from all of them it says nothing and the formula
stands. Leave-one-shape-out residuals come in closed form, so that intervals are never in-sample.
Rasmussen & Williams, Gaussian Processes for Machine Learning, eq. 2.25, 2.26 and 5.12 (by groups).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.latency.work import Work

Array = NDArray[np.float64]
NOISE = 0.02
_REACHES = (0.7, 1.5, 4.0)
_DIMENSIONS = 8


def features(works: Sequence[Work]) -> Array:
    """Coordinates of `works` [len, 8]: sizes in units of a factor e; another window or stride is another kernel."""
    rows = [
        (math.log(max(w.m, 1)), math.log(max(w.n, 1)), math.log(max(w.k, 1)), math.log(max(w.groups, 1)),
         4.0 * math.log(max(w.window, 1)), 2.0 * math.log(max(w.stride, 1)), 2.0 * w.residual,
         0.5 * math.log(max(w.elements, 1.0)))
        for w in works
    ]  # fmt: skip
    return np.array(rows, dtype=np.float64).reshape(-1, _DIMENSIONS)


@dataclass(frozen=True, slots=True)
class Residual:
    """A fitted process: training points, weights, amplitude (of ln t), reach (in factors of e)."""

    points: Array
    weights: Array
    amplitude: float
    reach: float
    inverse: Array

    @classmethod
    def nothing(cls, amplitude: float) -> "Residual":
        """A process that learnt nothing: mean 0 and the deviation `amplitude` everywhere."""
        return cls(np.zeros((0, _DIMENSIONS)), np.zeros(0), amplitude, 1.0, np.zeros((0, 0)))

    def at(self, works: Sequence[Work]) -> tuple[Array, Array]:
        """(mean, standard deviation) of ln(time / formula) at `works`."""
        if not len(self.points):
            return np.zeros(len(works)), np.full(len(works), self.amplitude)
        cross = _kernel(features(works), self.points, self.amplitude, self.reach)
        mean: Array = cross @ self.weights
        spread = self.amplitude**2 - np.einsum("ij,jk,ik->i", cross, self.inverse, cross, optimize=True)
        return mean, np.sqrt(np.maximum(spread, NOISE**2))


def _kernel(a: Array, b: Array, amplitude: float, reach: float) -> Array:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    # Matern 3/2: kernels change abruptly with sizes, so nothing smoother.
    scaled = np.sqrt(3 * np.maximum(square, 0.0)) / reach
    out: Array = amplitude**2 * (1 + scaled) * np.exp(-scaled)
    return out


def fit_residual(works: Sequence[Work], errors: Array, groups: Sequence[Hashable]) -> tuple[Residual, Array, Array]:
    """Fit to `errors` = ln(time / formula) of `works`; `groups` are left out together.

    Returns the process, and for each row the error that is left when its group was not learnt, and the standard
    deviation that was claimed for it.
    """
    points = features(works)
    raw, errors = errors, clipped(errors)
    spread = float(np.clip(np.sqrt(np.mean(errors**2)) if len(errors) else 0.15, 0.04, 0.5))
    if len(works) < 3:
        inverse = np.linalg.inv(_kernel(points, points, spread, 1.0) + NOISE**2 * np.eye(len(works)))
        return Residual(points, inverse @ errors, spread, 1.0, _plain(inverse)), errors, np.full(len(errors), spread)
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    several = [rows for rows in members.values() if len(rows) > 1]
    best: tuple[float, Residual, Array, Array] | None = None
    for reach in _REACHES:
        matrix = _kernel(points, points, spread, reach) + NOISE**2 * np.eye(len(works))
        inverse = np.linalg.inv(matrix)
        weights = inverse @ errors
        # A group of one row by the diagonal, which is all of them but a few.
        alone = 1 / np.diag(inverse)
        left, claimed = alone * weights + raw - errors, np.sqrt(np.maximum(alone, NOISE**2))
        for rows in several:
            block = np.linalg.inv(inverse[np.ix_(rows, rows)])
            left[rows] = block @ weights[rows] + (raw - errors)[rows]
            claimed[rows] = np.sqrt(np.maximum(np.diag(block), NOISE**2))
        score = float(np.mean(np.abs(left)))
        if best is None or score < best[0]:
            best = (score, Residual(points, weights, spread, reach, _plain(inverse)), left, claimed)
    assert best is not None
    if best[0] > float(np.mean(np.abs(errors))):
        # Neighbours tell nothing here: keep the look-up, but let it reach no further than the shape itself.
        return fit_at(works, errors, spread, 0.05), errors, np.full(len(errors), spread)
    return best[1], best[2], best[3]


def clipped(errors: Array) -> Array:
    """`errors` without outliers: a kernel that was ten times slower than any other says nothing of its neighbours."""
    if not len(errors):
        return errors
    middle = float(np.median(errors))
    far = max(0.3, 4.5 * float(np.median(np.abs(errors - middle))))
    return np.asarray(np.clip(errors, middle - far, middle + far))


def _plain(values: NDArray[np.floating[Any]]) -> Array:
    return np.asarray(values, dtype=np.float64)


def fit_at(works: Sequence[Work], errors: Array, amplitude: float, reach: float) -> Residual:
    """A process of given amplitude and reach."""
    points, errors = features(works), clipped(errors)
    inverse = np.linalg.inv(_kernel(points, points, amplitude, reach) + NOISE**2 * np.eye(len(works)))
    return Residual(points, inverse @ errors, amplitude, reach, _plain(inverse))
