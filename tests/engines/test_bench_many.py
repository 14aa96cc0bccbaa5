"""Several models timed in turns: who is ranked and who is not, warm-up, batch sizes."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from quantbench.demo import resnet18
from quantbench.engines.bench_many import _rank, _warm_up, median_interval


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same architecture narrow at 32 pixels, and eight times as wide."""
    folder = tmp_path_factory.mktemp("bench")
    for name, width in (("narrow", 8), ("wide", 64)):
        onnx.save(resnet18.build(width=width, size=32, classes=10), folder / f"{name}.onnx")
    return folder / "narrow.onnx", folder / "wide.onnx"


def test_models_take_turns_and_the_slower_is_told(cli, models: tuple[Path, Path]) -> None:
    code, printed, error = cli(
        "bench", *models, "--batch", "1,2", "--seconds", 0, "--calls", 12, "--threads", 1, "--json"
    )
    assert code == 0, error
    found = json.loads(printed)
    assert [(one["model"], one["batch"]) for one in found["models"]] == [
        ("narrow", 1), ("wide", 1), ("narrow", 2), ("wide", 2),
    ]  # fmt: skip
    assert all(one["rounds"] == 12 and one["low"] <= one["median"] <= one["high"] for one in found["models"])
    assert {pair["faster"] for pair in found["pairs"]} == {"narrow"}
    assert all(pair["parted"] for pair in found["pairs"])


def test_what_noise_cannot_part_is_not_ranked() -> None:
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 3, 60)  # a clock that falls hits both alike
    a, b = drift * rng.normal(1, 0.05, 60), drift * rng.normal(1, 0.05, 60)
    assert not _rank(1, ("a", a), ("b", b)).parted
    slower = _rank(1, ("slow", 1.2 * a), ("b", b))
    assert slower.parted
    assert (slower.faster, slower.slower) == ("b", "slow")
    low, high = median_interval(np.arange(101.0))
    assert (low, high) == (40.0, 61.0)


def test_warm_up_lasts_until_it_is_steady() -> None:
    times = iter([10.0] * 5 + [5.0] * 5 + [2.0] * 5 + [2.0] * 5 + [1.0] * 50)
    assert _warm_up(lambda: next(times)) == 20


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("--batch", "one"), "is no list of batch sizes"),
        (("--streams", 2), "are for one model at a time"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_faults(cli, models: tuple[Path, Path], extra: tuple[object, ...], words: str) -> None:
    code, _, error = cli("bench", *models, *extra)
    assert code == 2
    assert words in error
