"""Intervals for what is measured on a sample of images."""

import math

import numpy as np
from numpy.typing import NDArray

from quantbench.records.evaluation import Measured

_Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


def share(hits: int, count: int, unit: str = "images") -> Measured:
    """Share hits / count with Wilson's score interval (E. B. Wilson, JASA 22, 1927). Raises ValueError for count 0."""
    if count <= 0:
        raise ValueError(f"a share of no {unit}")
    p = hits / count
    z2 = _Z95 * _Z95
    centre = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 * math.sqrt(p * (1 - p) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return Measured(p, max(0.0, centre - half), min(1.0, centre + half), count, unit)


def paired_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Measured:
    """Difference of two shares of hits on the same images (second minus first), [N] booleans each.

    The interval is the normal one on the paired differences: images on which both agree carry no noise.
    """
    difference = second.astype(np.float64) - first.astype(np.float64)
    mean = float(difference.mean())
    half = _Z95 * float(difference.std(ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return Measured(mean, mean - half, mean + half, len(difference))


def sqnr_db(signal: NDArray[np.float64], noise: NDArray[np.float64], *, resamples: int = 1000) -> Measured:
    """Signal-to-quantization-noise ratio in dB from each image's energies [N]; bootstrap interval (seeded).

    SQNR = 10 log10(sum signal / sum noise); infinite for no noise, which is reported as 300 dB.
    """
    count = len(signal)
    value = _db(signal.sum(), noise.sum())
    if count < 2:
        return Measured(value, value, value, count)
    picks = np.random.default_rng(0).integers(0, count, size=(resamples, count))
    drawn = np.array([_db(signal[p].sum(), noise[p].sum()) for p in picks])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Measured(value, float(low), float(high), count)


def _db(signal: float, noise: float) -> float:
    if noise <= 0:
        return 300.0
    return 10.0 * math.log10(max(signal, 1e-300) / noise)
