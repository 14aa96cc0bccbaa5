"""Collection: one pass, exact merging, no dependence on order, split or batch size."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantbench.calibration import native, parts
from quantbench.calibration.collect import Collector, collect, merge_histograms, usable
from quantbench.calibration.histogram import BINS, Histogram, empty, merge, shares, summary
from quantbench.calibration.ort_outputs import InnerTensors, padded
from quantbench.calibration.same_values import representatives, sources
from quantbench.calibration.store import load_histograms, save_histograms
from quantbench.calibration.sweep import BFLOAT16, Block, Counter, histogram_of
from quantbench.demo import resnet18
from quantbench.errors import QuantbenchError
from quantbench.graph.onnx_view import view_of
from quantbench.qdq.place import place

MODEL = resnet18.build(width=8, size=32, classes=10)
TENSORS = place(view_of(MODEL)).tensors
IMAGES = np.random.default_rng(5).normal(size=(24, 3, 32, 32)).astype(np.float32)


def batched(images: np.ndarray, size: int) -> list[dict[str, np.ndarray]]:
    return [{"image": images[i : i + size]} for i in range(0, len(images), size)]


def histograms_of(images: np.ndarray, size: int = 4) -> dict[str, Histogram]:
    return collect(MODEL, batched(images, size), TENSORS, threads=1)


def assert_same(a: dict[str, Histogram], b: dict[str, Histogram], names=TENSORS) -> None:
    assert set(a) == set(b) == set(names)
    for name, histogram in a.items():
        assert (histogram.amax, histogram.exponent) == (b[name].amax, b[name].exponent)
        np.testing.assert_array_equal(histogram.counts, b[name].counts)


def test_counts_are_those_of_the_activations() -> None:
    histograms = histograms_of(IMAGES)
    stored: dict[str, list[np.ndarray]] = {name: [] for name in TENSORS}
    runner = InnerTensors(MODEL, TENSORS, threads=1)
    for feed in batched(IMAGES, 4):
        for name, values in runner.run(feed):
            stored[name].append(np.abs(values))
    for name in TENSORS:
        values = np.concatenate([v.ravel() for v in stored[name]])
        assert histograms[name].amax == values.max()
        assert BINS / 2 <= values.max() / histograms[name].bin_width < BINS
        index = np.floor(values.astype(np.float64) / histograms[name].bin_width).astype(np.int64)
        np.testing.assert_array_equal(histograms[name].counts, np.bincount(index, minlength=BINS))


def test_order_and_split_change_nothing_to_the_bit() -> None:
    whole = histograms_of(IMAGES)
    assert_same(whole, histograms_of(IMAGES[::-1].copy()))
    first, second = histograms_of(IMAGES[:8]), histograms_of(IMAGES[8:])
    assert_same(whole, merge_histograms(second, first))


def test_two_processes_give_what_one_gives() -> None:
    parts = [IMAGES[0::2].copy(), IMAGES[1::2].copy()]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        merged = merge_histograms(*pool.map(histograms_of, parts))
    assert_same(merged, histograms_of(IMAGES))


def test_batch_size_changes_no_more_than_the_library_rounds() -> None:
    """Kernels may sum in another order for another batch; the same elements are counted all the same."""
    one, many = histograms_of(IMAGES, 1), histograms_of(IMAGES, 24)
    for name in TENSORS:
        assert one[name].total == many[name].total
        moved = np.abs(one[name].counts - many[name].counts).sum() / 2
        assert moved <= 1e-3 * one[name].total


@pytest.fixture(params=["compiled", "numpy"])
def counter(request, monkeypatch) -> Callable[[int], Counter]:
    if request.param == "numpy":
        monkeypatch.setattr("quantbench.calibration.sweep.load", lambda: None)
    elif native.load() is None:
        pytest.skip("no C compiler here")
    return lambda rows: Counter(rows, threads=3)


def test_growing_grids_are_exact_in_any_order(counter) -> None:
    """Values of 30 orders of magnitude, subnormal ones among them, part by part and all at once."""
    rng = np.random.default_rng(1)
    values = (rng.normal(size=40_003) * 10.0 ** rng.uniform(-44, 30, 40_003)).astype(np.float32)
    values[::3] = 0
    whole = counter(1)
    whole.add_array(0, values)
    expected = whole.histogram(0)
    assert expected.total == values.size
    assert expected.amax == np.abs(values).max()
    index = np.floor(np.abs(values).astype(np.float64) / expected.bin_width).astype(np.int64)
    np.testing.assert_array_equal(expected.counts, np.bincount(index, minlength=BINS))
    for order in (np.argsort(np.abs(values)), np.argsort(-np.abs(values)), rng.permutation(values.size)):
        parts = np.array_split(values[order], 7)
        grown, merged = counter(1), empty()
        for part in parts:
            grown.add_array(0, part)
            merged = merge(histogram_of(part), merged)
        assert_same({"t": expected}, {"t": grown.histogram(0)}, ["t"])
        assert_same({"t": expected}, {"t": merged}, ["t"])


def test_half_precision_counts_as_its_float32(counter) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = np.ascontiguousarray(halves[np.isfinite(halves)])
    both = counter(2)
    both.add_array(0, halves)
    both.add_array(1, halves.astype(np.float32))
    assert_same({"t": both.histogram(0)}, {"t": both.histogram(1)}, ["t"])
    brain = np.arange(0, 1 << 14, dtype=np.uint16)  # bfloat16: the upper half of a float32
    wide = (brain.astype(np.uint32) << 16).view(np.float32)
    both = counter(2)
    both.add([Block(0, brain.ctypes.data, brain.size, BFLOAT16)])
    both.add_array(1, wide)
    assert_same({"t": both.histogram(0)}, {"t": both.histogram(1)}, ["t"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -np.nan])
@pytest.mark.parametrize("at", [0, 1999, 2500, 70_000])
def test_nan_and_infinity_are_found_wherever_they_are(counter, value: float, at: int) -> None:
    values = np.ones(70_001, np.float32)
    values[at] = value
    one = counter(1)
    one.add_array(0, values)
    assert one.histogram(0).broken
    assert np.isnan(one.histogram(0).amax) == np.isnan(value)
    one.add_array(0, np.ones(5, np.float32))
    assert one.histogram(0).broken
    assert merge(histogram_of(np.ones(3, np.float32)), one.histogram(0)).broken


def test_what_overflows_is_named_or_left_out() -> None:
    broken = IMAGES[:4].copy()
    broken[0, 0, 0, 0] = np.inf
    found = collect(MODEL, [{"image": broken}], ["image"])
    with pytest.raises(QuantbenchError, match="tensor image reaches infinity"):
        usable(found, ["image"])
    assert usable(found, []) == ({}, ["image"])
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(QuantbenchError, match="tensor image holds NaN"):
        usable(collect(MODEL, [{"image": broken}], ["image"]), ["image"])
    with pytest.raises(QuantbenchError, match="no calibration images"):
        collect(MODEL, [], TENSORS)


def test_zeros_and_subnormal_noise() -> None:
    for values in (np.zeros(10, np.float32), np.full(10, 1e-42, np.float32)):
        histogram = histogram_of(values)
        assert histogram.counts[0] == 10
        assert histogram.total == 10
        assert histogram.levels().sum() == 10


def test_summary_says_what_is_clipped() -> None:
    histogram = histogram_of(np.array([0.0, 0.1, 0.2, 0.9, 1.0], np.float32))
    assert summary(histogram, 0.5)["share_clipped"] == pytest.approx(0.4)
    assert summary(histogram, 1.0)["share_clipped"] == 0
    assert summary(histogram, 1.0)["share_first_bin"] == pytest.approx(0.2)


def test_histograms_survive_the_disk(tmp_path) -> None:
    histograms = histograms_of(IMAGES[:4])
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
    histograms = collect(model, feeds, ["x", "y"])
    assert {name: h.amax for name, h in histograms.items()} == {"x": 2.0, "y": 2.0}
    assert {name: h.total for name, h in histograms.items()} == {"x": 10, "y": 10}
    with pytest.raises(QuantbenchError, match="batch of 5 images for a model with static batch 4"):
        collect(model, [{"x": np.ones((5, 2), np.float32)}], ["y"])


def test_rearranged_tensors_are_counted_once_and_share_a_histogram() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
        helper.make_node("Flatten", ["b"], ["c"], axis=1),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    names = ["x", "c", "b", "a", "y"]
    assert representatives(model, names) == {"x": "x", "c": "c", "b": "c", "a": "c", "y": "y"}
    found = collect(model, [{"x": np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)}], names)
    assert list(found) == names
    for name in ("a", "b", "y"):
        assert_same({"t": found[name]}, {"t": found["c"]}, ["t"])
    assert found["x"].total == found["a"].total == 30


def test_concats_and_split_tensors_follow_from_their_parts() -> None:
    """Nested, with a part taken twice, a part that is rearranged, and one that nobody wants, which ends it."""
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], "s", axis=1),
        helper.make_node("Split", ["b"], ["c", "d"], "t", axis=2),
        helper.make_node("Relu", ["a"], ["r"], "r"),
        helper.make_node("Transpose", ["r"], ["p"], "p", perm=[0, 1, 3, 2]),
        helper.make_node("Transpose", ["p"], ["q"], "q", perm=[0, 1, 3, 2]),
        helper.make_node("Concat", ["q", "a", "q"], ["k"], "k", axis=1),
        helper.make_node("Neg", ["b"], ["n"], "n"),
        helper.make_node("Concat", ["k", "b"], ["m"], "m", axis=1),
        helper.make_node("Concat", ["m", "n"], ["y"], "y", axis=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n", 4, 4, 4])], [value("y", TensorProto.FLOAT, None)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    wanted = ["y", "m", "k", "x", "a", "b", "c", "d", "p", "q"]
    assert sources(model, wanted).counted == ("y", "a", "c", "d", "p")
    images = np.random.default_rng(3).normal(size=(3, 4, 4, 4)).astype(np.float32)
    images[0] *= 40
    for broken in (None, np.inf, np.nan):
        if broken is not None:
            images[1, 3, 2, 1] = broken  # in d
        found = collect(model, [{"x": images}], wanted, threads=1)
        alone = {name: collect(model, [{"x": images}], [name], threads=1)[name] for name in wanted}
        assert list(found) == wanted
        np.testing.assert_array_equal([h.amax for h in found.values()], [h.amax for h in alone.values()])
        for name in wanted:
            np.testing.assert_array_equal(found[name].counts, alone[name].counts)
            assert found[name].exponent == alone[name].exponent


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_large_activations_are_counted_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    seen: list[int] = []
    real = InnerTensors.bound

    def bound(self: InnerTensors, feed: dict[str, np.ndarray]):
        seen.append(len(feed["image"]))
        return real(self, feed)

    monkeypatch.setattr(InnerTensors, "bound", bound)
    sizes: dict[str, int] = {}
    for name, values in InnerTensors(MODEL, TENSORS, threads=1).run({"image": IMAGES[:1]}):
        sizes[name] = values.nbytes
    one = sum(sizes[name] for name in set(representatives(MODEL, TENSORS).values()))
    monkeypatch.setattr(parts, "MOST_BYTES", 4 * one + one // 2)
    collector = Collector(MODEL, TENSORS, threads=threads)
    assert [collector.add(feed) for feed in batched(IMAGES[:16], 8)] == [8, 8]
    found = collector.histograms()
    assert sum(seen) == 16
    assert max(seen) == {1: 4, 2: 2, 8: 1}[threads]
    assert collector._lanes == {1: 1, 2: 2, 8: 4}[threads]  # no more at a time than fit
    whole = histograms_of(IMAGES[:16])
    assert {name: h.total for name, h in found.items()} == {name: h.total for name, h in whole.items()}


def test_parts_of_a_batch_are_of_one_size_where_they_can_be() -> None:
    split = parts.Parts(MODEL, most=40)
    split.saw({"image": IMAGES[:1]}, 9)
    for count, sizes in ((8, [4, 4]), (6, [3, 3]), (10, [4, 3, 3]), (3, [3])):
        assert [len(part["image"]) for part in split.of({"image": IMAGES[:count]})] == sizes


def test_shares_are_those_of_the_values() -> None:
    values = np.random.default_rng(0).laplace(size=200_000).astype(np.float32)
    values[:50_000] = 0
    histogram = histogram_of(values)
    size = np.abs(values)
    for amax in (0.5, 3.0, float(size.max()), 400.0):
        found = shares(histogram, amax)
        half = amax / 127 / 2
        edge = histogram.bin_width
        assert np.mean(size >= amax + edge) <= found.clipped <= np.mean(size > amax)
        assert np.mean(size <= half - edge / 2) <= found.zero <= np.mean(size < max(half, edge / 2) + edge / 2)
        nonzero = size[size >= edge]
        assert found.lost == pytest.approx(np.mean(nonzero <= half), abs=0.005)
    assert shares(histogram_of(np.zeros(9, np.float32)), 0.0).zero == 1.0
    assert shares(histogram_of(np.zeros(9, np.float32)), 0.0).lost == 0.0


def test_a_static_batch_that_no_memory_holds_is_refused() -> None:
    feed = {"x": np.zeros((2, 3, 8, 8), np.float32)}
    assert padded(feed, 4)["x"].shape == (4, 3, 8, 8)
    with pytest.raises(QuantbenchError, match=r"a batch of 1,073,741,824 images"):
        padded(feed, 1 << 30)
