"""Threshold searches for integers that do not lie symmetrically: against quantizing the values themselves."""

import math

import numpy as np
import pytest

from quantbench.calibration import native
from quantbench.calibration.histogram import LEVEL_BINS as BINS
from quantbench.calibration.layout import SYMMETRIC, Layout
from quantbench.calibration.sweep import histogram_of
from quantbench.calibration.thresholds import entropy, mse, threshold_method

RNG = np.random.default_rng(11)
SILU = RNG.normal(size=30_000) * 3
VALUES = {
    "relu": np.maximum(RNG.laplace(size=30_000), 0),
    "relu6": np.clip(RNG.normal(2, 3, size=30_000), 0, 6),
    "silu": SILU / (1 + np.exp(-SILU)),
    "leaning": RNG.gumbel(size=30_000),
    "tail": np.abs(RNG.standard_t(3, size=30_000)),
    "symmetric": RNG.laplace(size=30_000),
}


def quantized(x: np.ndarray, high: float, low: float) -> np.ndarray:
    """By UINT8 with a zero point, as QuantizeLinear and DequantizeLinear have it, over [low, high]; by INT8 where the
    lower end is as far from zero."""
    if -low >= high:
        scale, zero, least, most = high / 127, 0, -128, 127
    else:
        scale = (high - low) / 255
        zero, least, most = math.ceil(-low / scale - 1e-6), 0, 255
    return (np.clip(np.rint(x / scale) + zero, least, most) - zero) * scale


def noise(x: np.ndarray, high: float, low: float) -> float:
    """What is clipped counts twice where levels are finer than symmetric ones over the largest magnitude."""
    error = (quantized(x, high, low) - x) ** 2
    clipped = (x > high + 1e-9) & (-low < np.abs(x).max())
    return float(error.sum() + error[clipped].sum())


@pytest.mark.parametrize("name", VALUES)
def test_mse_finds_the_least_error_of_the_integers_that_run(name: str) -> None:
    """Searched for 127 levels, three are clipped where 255 levels need not be: 11 to 68 % more error."""
    x = VALUES[name].astype(np.float32).astype(np.float64)
    low = float(min(x.min(), 0.0))
    histogram = histogram_of(x.astype(np.float32))
    found = mse.threshold(histogram, Layout(low))
    least = min(noise(x, share * histogram.amax, low) for share in np.arange(0.1, 1.001, 0.01))
    assert noise(x, found, low) <= 1.01 * least
    if name in ("relu", "tail", "silu"):
        assert noise(x, mse.threshold(histogram), low) > 1.03 * least


def divergence(counts: np.ndarray, size: int, count: int) -> float:
    """KL of one candidate of `count` levels, written out bin by bin from the talk's pseudocode."""
    bins = [float(c) for c in counts]
    bins[0] = bins[1]
    p = bins[:size]
    p[-1] += sum(bins[size:])
    q = [0.0] * size
    for level in range(count):
        start, stop = level * size // count, (level + 1) * size // count
        filled = [i for i in range(start, stop) if p[i] > 0]
        for i in filled:
            q[i] = sum(bins[start:stop]) / len(filled)
    pairs = [(a / sum(p), b / sum(q)) for a, b in zip(p, q, strict=True) if a > 0]
    return float("inf") if any(b == 0 for _, b in pairs) else sum(a * np.log(a / b) for a, b in pairs)


@pytest.mark.parametrize("low", [0.0, -100.25, -700.0])
def test_entropy_counts_the_levels_above_zero(low: float) -> None:
    """256 of them where nothing is below; what is below zero takes its share."""
    levels = histogram_of(VALUES["tail"].astype(np.float32)).levels()
    found = entropy.divergences(levels, Layout(low))
    for size in (300, 612, 1031, 2048):
        count = 128 if -low >= size else 256 - math.ceil(-low / ((size - low) / 255) - 1e-6)
        assert found[size - 128] == pytest.approx(divergence(levels, size, count), rel=1e-7)
    assert np.isinf(found[0]) == (low != -700.0)  # 128 bins hold no more levels than that


@pytest.mark.skipif(native.load() is None, reason="no C compiler here")
@pytest.mark.parametrize("share", [0.0, -0.01, -0.3, -0.9])
@pytest.mark.parametrize("name", ["relu", "silu", "tail"])
def test_compiled_searches_find_what_numpy_finds(name: str, share: float, monkeypatch) -> None:
    histogram = histogram_of(VALUES[name].astype(np.float32))
    layout, levels = Layout(share * BINS), histogram.levels()
    compiled = entropy.divergences(levels, layout), mse.costs(levels, layout)
    chosen = [module.threshold(histogram, Layout(share * histogram.amax)) for module in (entropy, mse)]
    for module in (entropy, mse):
        monkeypatch.setattr(module, "load", lambda: None)
    np.testing.assert_allclose(compiled[0], entropy.divergences(levels, layout), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(compiled[1], mse.costs(levels, layout), rtol=1e-6)
    assert chosen == [module.threshold(histogram, Layout(share * histogram.amax)) for module in (entropy, mse)]


def test_symmetric_thresholds_are_those_of_before() -> None:
    """Bins of 2048 that both searches chose before they knew of layouts."""
    before = {
        "relu": (1446, 1912), "relu6": (2048, 2048), "silu": (1307, 1664), "leaning": (1362, 1848),
        "tail": (1378, 1800), "symmetric": (2018, 1960),
    }  # fmt: skip
    for name, x in VALUES.items():
        histogram = histogram_of(x.astype(np.float32))
        found = tuple(round(search(histogram) / histogram.amax * BINS) for search in (entropy.threshold, mse.threshold))
        assert found == before[name], name


@pytest.mark.parametrize("method", ["minmax", "percentile:99.9", "legacy"])
def test_what_asks_for_values_alone_hangs_on_no_layout(method: str) -> None:
    histogram = histogram_of(VALUES["tail"].astype(np.float32))
    assert threshold_method(method)(histogram, Layout(0.0)) == threshold_method(method)(histogram, SYMMETRIC)
