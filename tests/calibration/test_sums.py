"""Sums over activations: the compiled loops and numpy's agree, whatever the sizes, dtypes and threads."""

import numpy as np
import pytest

from quantbench.calibration import sums as module
from quantbench.calibration.native import load
from quantbench.calibration.sums import Levels, Means, Sums
from quantbench.calibration.sweep import block_of

RNG = np.random.default_rng(11)
LEVELS = Levels(0.043, -128, 127)


def means(values: np.ndarray, columns: int, threads: int = 1) -> Means:
    found = Means(np.zeros(columns), np.zeros(columns))
    with Sums(threads) as sums:
        sums.add_means([(block_of(values), LEVELS, found)])
    return found


@pytest.mark.parametrize("shape", [(1, 7), (3, 513), (200, 64), (9, 70000)])
@pytest.mark.parametrize("threads", [1, 3])
def test_means_are_of_what_quantize_linear_makes(shape: tuple[int, int], threads: int) -> None:
    x = (3 * RNG.normal(size=shape)).astype(np.float32)
    x[0, :3] = [0.5 * 0.043, 1.5 * 0.043, 1000.0]  # a tie of each kind, and one far past the range
    found = means(x, shape[1], threads)
    np.testing.assert_allclose(found.sums, x.sum(axis=0, dtype=np.float64), rtol=1e-6, atol=1e-5)
    integers = np.clip(np.rint(x / np.float32(0.043)), -128, 127)
    np.testing.assert_array_equal(found.levels, integers.sum(axis=0, dtype=np.float64))


def test_without_the_library_and_in_half_precision_the_integers_are_the_same(monkeypatch) -> None:
    x = RNG.normal(size=(6, 1000)).astype(np.float16)
    wide = means(x.astype(np.float32), 1000)
    assert np.array_equal(means(x, 1000).levels, wide.levels)
    monkeypatch.setattr(module, "load", lambda: None)
    plain = means(x.astype(np.float32), 1000)
    np.testing.assert_array_equal(plain.levels, wide.levels)
    np.testing.assert_allclose(plain.sums, wide.sums, atol=1e-5)


@pytest.mark.parametrize("native", [pytest.param(True, marks=pytest.mark.skipif(load() is None, reason="no C")), False])
def test_differences_are_those_in_float64(native: bool, monkeypatch) -> None:
    if not native:
        monkeypatch.setattr(module, "load", lambda: None)
    pairs = []
    for size in (1, 16, 1025, 600_001):
        x = RNG.normal(size=size).astype(np.float32)
        pairs.append((x, x + np.float32(0.01) * RNG.normal(size=size).astype(np.float32)))
    same = RNG.normal(size=5000).astype(np.float32)
    pairs.append((same, same.copy()))
    with Sums(2) as sums:
        found = sums.differences([(block_of(x), block_of(y)) for x, y in pairs])
    for (x, y), row in zip(pairs, found, strict=True):
        a, b = x.astype(np.float64), y.astype(np.float64)
        np.testing.assert_allclose(row, [a @ a, b @ b, a @ b, ((a - b) ** 2).sum()], rtol=2e-6)
    assert found[-1][3] == 0
