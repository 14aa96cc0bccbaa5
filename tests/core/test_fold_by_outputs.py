"""`auto` of equalization and SmoothQuant: what it leaves alone, at what cost, and on which samples it decides."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.fold_by_outputs import JUDGED, SEEN, Foldable, FoldSamples, fold_by_outputs, fold_samples
from quantbench.data.sources import at_most, dataset_source, feeds, some
from quantbench.errors import QuantbenchError
from quantbench.folding.options import FoldOptions
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.images.preprocess import Preprocess
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from tests.folding.networks import network
from tests.folding.test_gain import mobilenet

MODELS = Path(__file__).parents[1] / "data" / "models"
AUTO = FoldOptions("auto", "auto")
PLAIN = PlacementOptions(head_float=False, tiny_channels=0)


class Counted:
    """Samples by chance of a shape, and which of them were read."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.read: set[int] = set()

    def opened(self, indices: Sequence[int]) -> Callable[[], Iterable[Feed]]:
        return lambda: self._feeds(indices)

    def _feeds(self, indices: Sequence[int]) -> Iterator[Feed]:
        for index in indices:
            self.read.add(index)
            yield {"x": np.random.default_rng(index).normal(size=(1, *self.shape)).astype(np.float32)}


def given(model: onnx.ModelProto, samples: FoldSamples) -> Foldable:
    view = view_of(model)
    return Foldable(model, view, place(view, PLAIN), samples, threshold_method("mse"), threads=1)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 96, 97, 1000])
@pytest.mark.parametrize("each", [1, 4])
def test_no_sample_is_both_looked_at_and_judged_on_but_of_one_or_two(count: int, each: int) -> None:
    asked: list[set[int]] = []

    def opened(indices: Sequence[int]) -> Callable[[], Iterable[Feed]]:
        asked.append(set(indices))
        return lambda: ()

    samples = fold_samples(count, opened, each=each)
    glanced, seen, tried, judged = asked
    assert min(map(len, asked)) > 0
    assert max(seen | judged) < count
    assert samples.seen.count <= SEEN
    assert samples.judged.count <= JUDGED
    assert bool(seen & judged) == (count < 3)
    assert glanced <= seen
    assert tried <= seen
    assert (samples.glanced.count, samples.whole) == (min(8, len(seen) * each), count * each)


def test_auto_leaves_a_network_of_like_channels_alone_and_makes_no_trial() -> None:
    model = load_model(MODELS / "vit-animals.onnx")
    view = view_of(model)
    grey = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
    source = at_most(dataset_source("animal-mnist?split=train", grey), 64)
    samples = fold_samples(64, lambda indices: lambda: feeds(some(source, tuple(indices)), "image", 8))
    vit = Foldable(model, view, place(view), samples, threshold_method("mse"), threads=1)
    made, folded = fold_by_outputs(vit, AUTO)
    assert made is model
    assert (folded.taken, folded.trials) == ((), ())
    assert [(gain.method, gain.gain_db < 3.0) for gain in folded.gains] == [("equalize", True), ("smooth", True)]
    assert {site.method for site in folded.sites} == {"smooth"}
    # The second Linear of each MLP stands behind GELU.
    reasons = {entry.node: entry.reason for entry in folded.passed_by if entry.method == "smooth"}
    assert len(reasons) == 3
    assert all("Erf" in reason for reason in reasons.values())


def test_a_network_that_gains_little_is_looked_at_on_eight_samples() -> None:
    model = network(
        """net (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {
            a = Conv (x, w0)
            b = Relu (a)
            y = Conv (b, w1)
        }""",
        w0=(32, 8, 1, 1), w1=(8, 32, 1, 1),
    )  # fmt: skip
    data = Counted(8, 6, 6)
    made, folded = fold_by_outputs(given(model, fold_samples(64, data.opened)), AUTO)
    assert made is model
    assert len(data.read) == 8
    assert [(gain.samples, gain.roughly) for gain in folded.gains] == [(8, True), (8, True)]


def test_a_network_without_channels_to_scale_is_not_run() -> None:
    model = network(
        """net (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {
            a = Conv (x, w0)
            s = Sigmoid (a)
            b = Mul (a, s)
            y = Conv (b, w1)
        }""",
        w0=(8, 8, 1, 1), w1=(8, 8, 1, 1),
    )  # fmt: skip
    data = Counted(8, 6, 6)
    made, folded = fold_by_outputs(given(model, fold_samples(64, data.opened)), AUTO)
    assert made is model
    assert len(data.read) == 1  # for its shape
    assert {entry.method for entry in folded.passed_by} == {"equalize"}
    assert folded.in_words().startswith("Channels: left as they are, nothing for equalization and SmoothQuant")


def test_unlike_channels_are_scaled_after_a_look_and_a_trial() -> None:
    data = Counted(3, 12, 12)
    made, folded = fold_by_outputs(given(model := mobilenet(), fold_samples(64, data.opened)), AUTO)
    assert made is not model
    assert folded.taken == ("equalize",)
    assert [(gain.method, gain.samples, gain.roughly) for gain in folded.gains] == [
        ("equalize", 42, False), ("smooth", 8, True)]  # fmt: skip
    assert folded.trials[1].sqnr_db > folded.trials[0].sqnr_db + 2  # type: ignore[operator]


def test_few_samples_decide_nothing_but_on_is_done() -> None:
    seven = fold_samples(7, Counted(3, 12, 12).opened)
    model = mobilenet()
    made, folded = fold_by_outputs(given(model, seven), AUTO)
    assert made is model
    assert folded.gains == ()
    assert fold_by_outputs(given(model, seven), FoldOptions("on"))[1].taken == ("equalize",)


def test_values_that_reach_infinity_are_no_channels_to_scale() -> None:
    model = network(
        """net (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {
            a = Conv (x, w0)
            b = Mul (a, huge)
            r = Relu (b)
            c = Conv (r, w1)
            d = Relu (c)
            y = Conv (d, w2)
        }""",
        w0=(8, 8, 1, 1), huge=np.float32(3e38) * np.ones((1, 8, 1, 1)), w1=(8, 8, 1, 1), w2=(8, 8, 1, 1),
    )  # fmt: skip
    made, folded = fold_by_outputs(given(model, fold_samples(64, Counted(8, 6, 6).opened)), AUTO)
    assert made is model
    assert folded.sites == ()


def test_samples_that_cannot_be_used_are_left_to_calibration() -> None:
    def opened(indices: Sequence[int]) -> Callable[[], Iterable[Feed]]:
        return lambda: ({"x": np.zeros((1, 3, 5), np.float32)} for _ in indices)

    model = mobilenet()
    assert fold_by_outputs(given(model, fold_samples(64, opened)), AUTO)[0] is model
    with pytest.raises(QuantbenchError, match="onnxruntime"):
        fold_by_outputs(given(model, fold_samples(64, opened)), FoldOptions("on", "auto"))
