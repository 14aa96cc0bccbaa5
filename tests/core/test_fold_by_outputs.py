"""`auto` of equalization and SmoothQuant: what it leaves alone, and on which samples it decides."""

from pathlib import Path

import pytest

from quantbench.calibration.thresholds import threshold_method
from quantbench.core.fold_by_outputs import JUDGED, SEEN, Foldable, fold_by_outputs, fold_samples
from quantbench.data.sources import at_most, dataset_source, feeds, some
from quantbench.folding.options import FoldOptions
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.images.preprocess import Preprocess
from quantbench.qdq.place import place

MODELS = Path(__file__).parents[1] / "data" / "models"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 96, 97, 1000])
def test_no_sample_is_both_looked_at_and_judged_on_but_of_one_or_two(count: int) -> None:
    seen, judged = fold_samples(count)
    assert min(len(seen), len(judged)) > 0
    assert max(*seen, *judged) < count
    assert len(seen) <= SEEN
    assert len(judged) <= JUDGED
    assert bool(set(seen) & set(judged)) == (count < 3)


def test_auto_leaves_a_network_of_like_channels_alone_and_makes_no_trial() -> None:
    model = load_model(MODELS / "vit-animals.onnx")
    view = view_of(model)
    grey = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
    source = at_most(dataset_source("animal-mnist?split=train", grey), 64)
    seen, judged = (some(source, indices) for indices in fold_samples(64))
    given = Foldable(
        model, view, place(view), lambda: feeds(seen, "image", 8), len(seen), lambda: feeds(judged, "image", 8),
        len(judged), threshold_method("mse"), threads=1,
    )  # fmt: skip
    made, folded = fold_by_outputs(given, FoldOptions("auto", "auto"))
    assert made is model
    assert (folded.taken, folded.trials) == ((), ())
    assert {site.method for site in folded.sites} == {"smooth"}
    # The second Linear of each MLP stands behind GELU.
    reasons = {entry.node: entry.reason for entry in folded.passed_by if entry.method == "smooth"}
    assert len(reasons) == 3
    assert all("Erf" in reason for reason in reasons.values())
