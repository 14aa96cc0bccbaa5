"""Threshold searches against independent, slow, literal versions of their definitions."""

import numpy as np
import pytest

from quantbench.calibration import native
from quantbench.calibration.histogram import LEVEL_BINS as BINS
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.sweep import histogram_of as count
from quantbench.calibration.thresholds import entropy, legacy, minmax, mse, percentile, threshold_method
from quantbench.errors import QuantbenchError


def histogram_of(values: np.ndarray) -> Histogram:
    return count(values.astype(np.float32))


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    spike = np.zeros(5000)
    spike[17] = 3.0
    return {
        "normal": rng.normal(size=20_000),
        "laplace_outliers": np.concatenate([rng.laplace(size=20_000), [60.0, -75.0]]),
        "relu": np.maximum(rng.normal(size=20_000), 0),
        "bimodal": np.concatenate([rng.normal(0.2, 0.05, 9000), rng.normal(4, 0.1, 1000)]),
        "constant": np.full(1000, 2.5),
        "single_spike": spike,
        "all_zero": np.zeros(1000),
        "sparse": rng.choice([0.1, 0.9, 7.0], size=300, p=[0.6, 0.39, 0.01]),
    }


TENSORS = tensors()


def brute_force_divergence(counts: np.ndarray, size: int) -> float:
    """KL of one candidate, written out bin by bin from the talk's pseudocode."""
    bins = [float(c) for c in counts]
    bins[0] = bins[1]
    p = bins[:size]
    p[-1] += sum(bins[size:])
    q = [0.0] * size
    for level in range(128):
        start, stop = level * size // 128, (level + 1) * size // 128
        filled = [i for i in range(start, stop) if p[i] > 0]
        for i in filled:
            q[i] = sum(bins[start:stop]) / len(filled)
    sum_p, sum_q = sum(p), sum(q)
    if sum_p == 0 or sum_q == 0:
        return float("inf")
    total = 0.0
    for a, b in zip(p, q, strict=True):
        if a > 0:
            if b == 0:
                return float("inf")
            total += a / sum_p * np.log((a / sum_p) / (b / sum_q))
    return total


@pytest.mark.parametrize("name", TENSORS)
def test_entropy_equals_brute_force(name: str) -> None:
    histogram = histogram_of(TENSORS[name])
    sizes = [*range(128, BINS + 1, 61), BINS]
    ours = entropy.divergences(histogram.levels())
    slow = np.array([brute_force_divergence(histogram.levels(), size) for size in sizes])
    picked = ours[[size - 128 for size in sizes]]
    finite = np.isfinite(slow)
    assert (np.isfinite(picked) == finite).all()
    np.testing.assert_allclose(picked[finite], slow[finite], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["normal", "relu", "laplace_outliers", "bimodal"])
def test_entropy_picks_the_brute_force_minimum(name: str) -> None:
    histogram = histogram_of(TENSORS[name])
    slow = [brute_force_divergence(histogram.levels(), size) for size in range(128, BINS + 1)]
    best = max(i for i, v in enumerate(slow) if v <= min(slow) + 1e-12) + 128
    assert entropy.threshold(histogram) == pytest.approx(best * histogram.amax / BINS, rel=1e-6)


def test_entropy_clips_outliers_and_keeps_plain_ranges() -> None:
    clipped = histogram_of(TENSORS["laplace_outliers"])
    assert entropy.threshold(clipped) < 0.5 * clipped.amax
    constant = histogram_of(TENSORS["constant"])
    assert entropy.threshold(constant) == constant.amax


def test_entropy_has_many_candidates_unlike_onnxruntime() -> None:
    """onnxruntime's CalibrationMethod.Entropy has one candidate, so it always answers min-max; ours must not."""
    histogram = histogram_of(TENSORS["laplace_outliers"])
    assert len(entropy.divergences(histogram.levels())) == 1921
    assert entropy.threshold(histogram) != minmax.threshold(histogram)


@pytest.mark.parametrize("method", [minmax, entropy, percentile, mse, legacy])
@pytest.mark.parametrize("name", TENSORS)
def test_every_method_stays_within_the_observed_range(method, name: str) -> None:
    histogram = histogram_of(TENSORS[name])
    amax = method.threshold(histogram)
    assert 0 <= amax <= histogram.amax
    assert (amax > 0) == (histogram.amax > 0)


@pytest.mark.parametrize("name", ["normal", "relu", "laplace_outliers", "bimodal", "constant", "sparse"])
def test_mse_equals_brute_force(name: str) -> None:
    histogram = histogram_of(TENSORS[name])
    counts = histogram.levels()
    counts[0] = counts[1]
    best, best_cost = 0, float("inf")
    for edge in range(128, BINS + 1, 8):
        cost = 0.0
        for i in np.flatnonzero(counts):
            centre = i + 0.5
            level = min(round(centre / (edge / 127)), 127)
            cost += counts[i] * (level * edge / 127 - centre) ** 2
        if cost <= best_cost * (1 + 1e-9):
            best, best_cost = edge, cost
    ours = mse.threshold(histogram) / histogram.amax * BINS
    assert ours == pytest.approx(best, abs=8.5)  # float32 rounding may tip a flat minimum to its neighbour


@pytest.mark.parametrize("share", [50.0, 99.0, 99.9, 100.0])
def test_percentile_is_the_quantile_to_a_bin(share: float) -> None:
    values = np.abs(TENSORS["laplace_outliers"]).astype(np.float32)
    histogram = histogram_of(values)
    exact = float(np.quantile(values, share / 100, method="inverted_cdf"))
    assert exact <= percentile.threshold(histogram, share) + 1e-6
    assert percentile.threshold(histogram, share) - exact <= histogram.bin_width * 1.001


def test_legacy_is_the_quantile_of_real_legacy_caches() -> None:
    histogram = histogram_of(TENSORS["normal"])
    assert legacy.threshold(histogram) == percentile.threshold(histogram, 99.999)


def test_method_names() -> None:
    histogram = histogram_of(TENSORS["normal"])
    assert threshold_method("percentile:99")(histogram) == percentile.threshold(histogram, 99.0)
    with pytest.raises(QuantbenchError, match="unknown threshold method 'entropi'"):
        threshold_method("entropi")
    with pytest.raises(QuantbenchError, match="percentile"):
        threshold_method("percentile:0")(histogram)


def two_pass(values: np.ndarray) -> np.ndarray:
    """The counts that a second pass over the same values yields, the maximum known: 2048 bins up to it."""
    values = np.abs(values.astype(np.float32))
    index = np.minimum(values * np.float32(BINS / values.max()), BINS - 1).astype(np.int64)
    return np.bincount(index, minlength=BINS).astype(np.float64)


@pytest.mark.parametrize("stretch", [1.0, 1.1, 1.37, 1.9])
@pytest.mark.parametrize("name", ["normal", "laplace_outliers", "relu", "bimodal", "constant", "sparse"])
def test_one_pass_finds_what_two_passes_find(name: str, stretch: float) -> None:
    """To one bin of 2048, or where the objective is flat to a candidate that is as good on the two-pass histogram."""
    values = TENSORS[name] * stretch
    one = histogram_of(values)
    counts = two_pass(values)
    bin_width = one.amax / BINS
    assert one.levels().sum() == pytest.approx(counts.sum())
    exact = np.abs(values.astype(np.float32))
    for share in (99.0, 99.9, 99.99):
        wanted = float(np.quantile(exact, share / 100, method="inverted_cdf"))
        assert abs(percentile.threshold(one, share) - wanted) <= bin_width * 1.001
    for objective, threshold, first, step, flat in (
        (entropy.divergences(counts), entropy.threshold(one), 128, 1, 1e-3),
        (mse.costs(counts), mse.threshold(one), 128, 8, 2e-3 * float(mse.costs(counts).min())),
    ):
        found = round((threshold / bin_width - first) / step)
        best = len(objective) - 1 - int(np.argmin(objective[::-1]))
        assert found == best or abs(found - best) * step <= 1 or objective[found] - objective[best] <= flat


@pytest.mark.skipif(native.load() is None, reason="no C compiler here")
@pytest.mark.parametrize("kind", ["relu", "tail", "few", "gap", "one"])
def test_compiled_searches_find_what_numpy_finds(kind: str, monkeypatch) -> None:
    rng = np.random.default_rng(3)
    values = {
        "relu": np.maximum(rng.normal(size=200_000), 0),
        "tail": rng.standard_t(3, size=100_000),
        "few": rng.integers(0, 20, size=5000) / 3,
        "gap": np.concatenate([rng.normal(size=50_000), [80.0, 80.5]]),
        "one": np.full(10, 3.0),
    }[kind]
    histogram = histogram_of(values.astype(np.float32))
    levels = histogram.levels()
    compiled = entropy.divergences(levels), mse.costs(levels)
    chosen = entropy.threshold(histogram), mse.threshold(histogram)
    for module in (entropy, mse):
        monkeypatch.setattr(module, "load", lambda: None)
    np.testing.assert_allclose(compiled[0], entropy.divergences(levels), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(compiled[1], mse.costs(levels), rtol=1e-6)
    assert chosen == (entropy.threshold(histogram), mse.threshold(histogram))
