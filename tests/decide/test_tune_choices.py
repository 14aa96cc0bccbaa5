"""What `tune` tries beside thresholds and regions: skip connections in float, and adaptive rounding, and when."""

from pathlib import Path

import pytest

from quantbench.cli.decide_options import bench_of, recipe_of
from quantbench.decide.gates import Gates
from quantbench.decide.goal import Goal
from quantbench.decide.tune import FOLDED, METHODS, Search, most_trials
from quantbench.decide.workbench import Workbench
from quantbench.records.search import RegionCost, Sensitivity, Settings, Trial

MODELS = Path(__file__).parents[1] / "data" / "models"
THRESHOLDS = list(METHODS["fast"])


def bench(name: str, **placement: bool) -> Workbench:
    """A trained network, eight pictures to calibrate on and sixteen others to measure on."""
    grey = {"scale": 1 / 255, "mean": 0.5, "std": 0.5, "channels": "GRAY"}
    changes = {
        "model": str(MODELS / f"{name}.onnx"), "data.max_images": 8, "evaluation.max_images": 16, "threads": 1,
        "data.preprocess": grey, **{f"placement.{name}": value for name, value in placement.items()},
    }  # fmt: skip
    return bench_of(recipe_of(None, changes, "animal-mnist?split=train", "animal-mnist?split=test"), quiet=True)


def costs(alone_db: float) -> Sensitivity:
    """One region, which may not go to float, and how good it is alone."""
    region = RegionCost(
        name="r", weighted=("r",), nodes=("r",), noise=10 ** (-alone_db / 10), sqnr_db=alone_db, agreement=None,
        macs=0.5, consider=False,
    )  # fmt: skip
    return Sensitivity(model="m", calibrator="mse", images=1, regions=(region,))


def sqnr(trial: Trial) -> float:
    return trial.measures["sqnr_db"].value


def test_weights_are_rounded_adaptively_where_a_region_alone_misses(tmp_path: Path) -> None:
    """Weights of one scale a layer, so that their rounding is what the outputs miss by."""
    coarse = bench("animals_resnet18", per_channel=False)

    def search(goal_db: float, alone_db: float) -> tuple[Trial, list[Trial]]:
        one = Search(coarse, Goal(Gates(min_sqnr=goal_db)), tmp_path, "quantbench ptq m.onnx")
        return one.run(costs(alone_db)), one.trials

    _, trials = search(200.0, 100.0)
    assert [trial.settings.calibrator for trial in trials[:3]] == THRESHOLDS
    *others, rounded = trials
    assert rounded.settings.adaptive
    assert {t.why for t in others[3:]} <= {"skip connections in float", *FOLDED.values()}
    best = max(map(sqnr, others))
    assert sqnr(rounded) > best
    # Known trials count again; this goal only the rounded weights meet.
    goal = (best + sqnr(rounded)) / 2
    found, again = search(goal, goal - 1)
    assert found.settings == rounded.settings
    assert found.command.endswith("--rounding adaptive --equalize off --smooth off")
    assert [trial.measures for trial in again] == [trial.measures for trial in trials]
    # A region alone that is good enough: rounding is not tried, and the search says that the goal is missed.
    missed, few = search(goal, goal + 1)
    assert missed.misses
    assert len(few) == len(others)
    # A goal that the first thresholds meet ends it.
    assert len(search(sqnr(trials[0]) - 0.1, 0.0)[1]) == 1


def test_skips_are_left_in_float_where_the_rules_quantize_some(tmp_path: Path) -> None:
    resnet = bench("animals_resnet18")
    search = Search(resnet, Goal(Gates(min_sqnr=200.0)), tmp_path, "quantbench ptq m.onnx")
    search.run(costs(300.0))
    assert search.has_skips()
    best = max(search.trials[:3], key=sqnr).settings.calibrator
    assert search.trials[3].settings == Settings(best, residual_float=True)
    assert search.trials[3].int8_macs == search.trials[0].int8_macs
    assert "--residual-float" in search.trials[3].command
    plain, without = (resnet.plan(Settings("mse", residual_float=skips)) for skips in (False, True))
    assert {site.node for site in plain.weights} == {site.node for site in without.weights}
    assert len(without.activations) < len(plain.activations)


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        (Settings("mse"), "--calibrator mse --equalize off --smooth off"),
        (
            Settings("mse", adaptive=True, residual_float=True),
            "--calibrator mse --residual-float --rounding adaptive --equalize off --smooth off",
        ),
        (
            Settings("mse", ("a b",), best_placement=True, equalize=True),
            "--calibrator mse --keep-float 'a b' --placement best --equalize on --smooth off",
        ),
    ],
)
def test_a_variant_in_flags(settings: Settings, flags: str) -> None:
    assert settings.flags() == flags
    assert Settings().in_words() == ""
    assert ("rounded adaptively" in settings.in_words()) == settings.adaptive


def test_most_trials_count_each_choice() -> None:
    assert most_trials(8, "fast", skips=True, timed=True) == most_trials(8, "fast", skips=False, timed=False) + 2


def test_a_variant_with_scaled_channels_has_a_float_network_of_its_own() -> None:
    vit = bench("vit-animals")
    plain, smooth = (vit.network(Settings("mse", smooth=smooth)) for smooth in (False, True))
    assert plain.model is vit.model
    assert plain.gain_db is None
    assert smooth.gain_db is not None
    assert smooth.gain_db > 0
    assert smooth.model is not vit.model
    assert vit.network(Settings("minmax", smooth=True)) is smooth
