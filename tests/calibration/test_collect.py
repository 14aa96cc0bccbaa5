"""Collection: two passes, exact merging, no dependence on order, split or batch size."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantbench.calibration.collect import collect_histograms, collect_maxima, merge_histograms, merge_maxima
from quantbench.calibration.histogram import BINS, Histogram, add, empty, merge, summary
from quantbench.calibration.ort_outputs import InnerTensors
from quantbench.calibration.store import load_histograms, save_histograms
from quantbench.demo import resnet18
from quantbench.errors import QuantbenchError
from quantbench.graph.onnx_view import view_of
from quantbench.qdq.place import place

MODEL = resnet18.build(width=8, size=32, classes=10)
TENSORS = place(view_of(MODEL)).tensors
IMAGES = np.random.default_rng(5).normal(size=(24, 3, 32, 32)).astype(np.float32)


def batched(images: np.ndarray, size: int) -> list[dict[str, np.ndarray]]:
    return [{"image": images[i : i + size]} for i in range(0, len(images), size)]


def maxima_of(images: np.ndarray) -> dict[str, float]:
    return collect_maxima(MODEL, batched(images, 4), TENSORS, threads=1)


def histograms_of(images: np.ndarray, maxima: dict[str, float], size: int = 4) -> dict[str, Histogram]:
    return collect_histograms(MODEL, batched(images, size), maxima, threads=1)


def assert_same(a: dict[str, Histogram], b: dict[str, Histogram]) -> None:
    assert set(a) == set(b) == set(TENSORS)
    for name, histogram in a.items():
        assert histogram.amax == b[name].amax
        np.testing.assert_array_equal(histogram.counts, b[name].counts)


def test_maxima_and_counts_are_those_of_the_activations() -> None:
    maxima = maxima_of(IMAGES)
    histograms = histograms_of(IMAGES, maxima)
    stored: dict[str, list[np.ndarray]] = {name: [] for name in TENSORS}
    runner = InnerTensors(MODEL, TENSORS, threads=1)
    for feed in batched(IMAGES, 4):
        for name, values in runner.run(feed):
            stored[name].append(np.abs(values))
    for name in TENSORS:
        values = np.concatenate([v.ravel() for v in stored[name]])
        assert maxima[name] == values.max()
        index = np.minimum(values * np.float32(BINS / values.max()), BINS - 1).astype(np.int64)
        np.testing.assert_array_equal(histograms[name].counts, np.bincount(index, minlength=BINS))


def test_order_and_split_change_nothing_to_the_bit() -> None:
    maxima = maxima_of(IMAGES)
    whole = histograms_of(IMAGES, maxima)
    assert_same(whole, histograms_of(IMAGES[::-1].copy(), maxima_of(IMAGES[::-1].copy())))
    first, second = IMAGES[:8], IMAGES[8:]
    merged = merge_maxima(maxima_of(second), maxima_of(first))
    assert merged == maxima
    assert_same(whole, merge_histograms(histograms_of(second, merged), histograms_of(first, merged)))


def test_two_processes_give_what_one_gives() -> None:
    parts = [IMAGES[0::2].copy(), IMAGES[1::2].copy()]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        maxima = merge_maxima(*pool.map(maxima_of, parts))
        merged = merge_histograms(*pool.map(histograms_of, parts, [maxima, maxima]))
    assert_same(merged, histograms_of(IMAGES, maxima_of(IMAGES)))


def test_batch_size_changes_no_more_than_the_library_rounds() -> None:
    """Kernels may sum in another order for another batch; the same elements are counted all the same."""
    maxima = maxima_of(IMAGES)
    one, many = histograms_of(IMAGES, maxima, 1), histograms_of(IMAGES, maxima, 24)
    for name in TENSORS:
        assert one[name].total == many[name].total
        moved = np.abs(one[name].counts - many[name].counts).sum() / 2
        assert moved <= 1e-3 * one[name].total


def test_merge_refuses_other_ranges() -> None:
    with pytest.raises(ValueError, match="cannot merge"):
        merge(empty(1.0), empty(2.0))


def test_nan_and_infinity_are_named() -> None:
    with pytest.raises(QuantbenchError, match="tensor t holds NaN"):
        add(empty(1.0), np.array([0.5, np.nan], np.float32), "t")
    broken = IMAGES[:4].copy()
    broken[0, 0, 0, 0] = np.inf
    with pytest.raises(QuantbenchError, match="tensor image reaches inf"):
        collect_maxima(MODEL, [{"image": broken}], ["image"])
    with pytest.raises(QuantbenchError, match="no calibration images"):
        collect_maxima(MODEL, [], TENSORS)


def test_zeros_and_subnormal_noise() -> None:
    for amax in (0.0, 1e-42):
        histogram = empty(amax)
        add(histogram, np.zeros(10, np.float32))
        assert histogram.counts[0] == 10
        assert histogram.total == 10


def test_summary_says_what_is_clipped() -> None:
    histogram = empty(1.0)
    add(histogram, np.array([0.0, 0.1, 0.2, 0.9, 1.0], np.float32))
    assert summary(histogram, 0.5)["share_clipped"] == pytest.approx(0.4)
    assert summary(histogram, 1.0)["share_clipped"] == 0
    assert summary(histogram, 1.0)["share_first_bin"] == pytest.approx(0.2)


def test_histograms_survive_the_disk(tmp_path) -> None:
    histograms = histograms_of(IMAGES[:4], maxima_of(IMAGES[:4]))
    save_histograms(tmp_path / "h.npz", histograms, images=4)
    loaded, images = load_histograms(tmp_path / "h.npz")
    assert images == 4
    assert_same(histograms, loaded)
    (tmp_path / "h.npz").write_bytes(b"half a file")
    with pytest.raises(QuantbenchError, match=r"h\.npz is damaged"):
        load_histograms(tmp_path / "h.npz")


def test_static_batch_padding_is_not_counted() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 2])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    feeds = [{"x": np.ones((4, 2), np.float32)}, {"x": np.full((1, 2), 2, np.float32)}]
    maxima = collect_maxima(model, feeds, ["x", "y"])
    histograms = collect_histograms(model, feeds, maxima)
    assert maxima == {"x": 2.0, "y": 2.0}
    assert {name: h.total for name, h in histograms.items()} == {"x": 10, "y": 10}
    with pytest.raises(QuantbenchError, match="batch of 5 images for a model with static batch 4"):
        collect_maxima(model, [{"x": np.ones((5, 2), np.float32)}], ["y"])
