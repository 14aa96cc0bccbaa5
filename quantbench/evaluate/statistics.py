"""Intervals and tests for what is measured on a sample of images."""

import math

import numpy as np
from numpy.typing import NDArray

from quantbench.records.evaluation import Measured, NotMeasurable

_Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
RESAMPLES = 1000
_DRAWN_AT_ONCE = 1_000_000

Floats = NDArray[np.float64]


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

    The interval is the adjusted Wald one for pairs, with one image added to each of the two cells that differ, so that
    it has a width where no image differs. Source: Bonett and Price, J. Educ. Behav. Stat. 37 (2012) 479.
    """
    count = len(first)
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    up, down = (gained + 1) / (count + 2), (lost + 1) / (count + 2)
    half = _Z95 * math.sqrt(max(up + down - (up - down) ** 2, 0.0) / (count + 2))
    value = (gained - lost) / count
    return Measured(value, max(up - down - half, -1.0), min(up - down + half, 1.0), count)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Exact two-sided p of McNemar's test: how likely is a split of the images that differ at least as uneven, were
    both models equally good. 1 where no image differs (McNemar, Psychometrika 12, 1947; exact by the binomial)."""
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    count, least = gained + lost, min(gained, lost)
    if not count:
        return 1.0
    logs = [math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in range(least + 1)]
    return min(1.0, 2 * sum(math.exp(log - count * math.log(2)) for log in logs))


def unseen(count: int) -> float:
    """Largest share of images of a kind that none of `count` images was, at 95 %: about 3 / count.

    Source: Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249 (1983) 1743.
    """
    return 1.0 - math.pow(0.05, 1.0 / max(count, 1))


def of_draws(value: float, draws: Floats, count: int, *, bounds: tuple[float, float] | None = None) -> Measured:
    """`value` with the 95 % percentile interval of bootstrap `draws` over `count` images.

    Where no draw differs from another and the measure has `bounds`, images unlike these may still exist: the interval
    then is what a share `unseen(count)` of them at a bound would make of it.
    """
    low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975]))
    if bounds is not None and low == high:
        rare = unseen(count)
        low, high = ((1 - rare) * value + rare * bound for bound in bounds)
    return Measured(value, low, high, count)


def resampled(images: int, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """How often each image stands in each bootstrap resample: [resamples, images]. The same for the same numbers, so
    that two models measured with it are compared in pairs."""
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, images), np.int64)
    rows = max(1, _DRAWN_AT_ONCE // max(images, 1))
    for start in range(0, resamples, rows):
        part = counts[start : start + rows]
        drawn = rng.integers(0, images, part.shape) + images * np.arange(len(part))[:, None]
        part[:] = np.bincount(drawn.reshape(-1), minlength=part.size).reshape(part.shape)
    return counts


def sqnr_db(signal: Floats, noise: Floats, *, resamples: int = RESAMPLES) -> Measured | NotMeasurable:
    """Signal-to-quantization-noise ratio in dB from each image's energies [N]; bootstrap interval (seeded).

    SQNR = 10 log10(sum signal / sum noise). Not measurable without images, signal or noise,
    nor where one of them is not finite.
    """
    count = len(signal)
    if not count:
        return NotMeasurable("there is no image")
    if not (np.isfinite(signal).all() and np.isfinite(noise).all()):
        return NotMeasurable("an output holds NaN or infinity, or is too large to be squared")
    if noise.sum() <= 0:
        return NotMeasurable("both are equal to the last bit")
    if signal.sum() <= 0:
        return NotMeasurable("the reference is zero everywhere")
    value = 10.0 * math.log10(signal.sum() / noise.sum())
    if count < 2:
        return Measured(value, value, value, count)
    weights = resampled(count, resamples)
    signals, noises = weights @ signal, weights @ noise
    # A resample that holds none of the few images with a signal, or with noise, says nothing in dB.
    useful = (signals > 0) & (noises > 0)
    if not useful.any():
        return Measured(value, value, value, count)
    draws = 10.0 * np.log10(signals[useful] / noises[useful])
    return of_draws(value, draws, count)
