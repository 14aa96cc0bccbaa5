"""A qat-export folder after all that can happen between two calls: nothing is redone that need not be, all else is."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quantbench import provenance
from quantbench.cli.qat_request import qat_request
from quantbench.errors import QuantbenchError
from quantbench.predict.versions import PredictedFor
from quantbench.qat import pipeline
from quantbench.recipe import Recipe
from quantbench.records.run import QatRun
from scripts.chaos_steps import Call, Server
from tests.qat.small_run import NETWORK, holds, run, write_home

pytestmark = pytest.mark.usefixtures("clock")
ALL = {"calibrate", "train", "export"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, its data, and a finished run of two epochs."""
    home = write_home(tmp_path_factory.mktemp("template") / "home")
    run(home, home / "run")
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template, whose finished run is known by its content wherever it lies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(template, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("tests.qat.small_run", "torch._dynamo", "onnxruntime") as started:
        yield started


def redone(before: QatRun, after: QatRun) -> set[str]:
    """Names of the stages that ran again."""
    ended = {name: (stage.key, stage.provenance) for name, stage in before.stages.items()}
    return {name for name, stage in after.stages.items() if ended.get(name) != (stage.key, stage.provenance)}


def made(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("ranges.json", "trained.pt", "net.qdq.onnx", "export.json")}


def test_a_second_call_does_nothing_again_even_from_another_folder(home: Path) -> None:
    before = holds(home / "run")
    there = home.parent / "there"
    shutil.move(home, there)
    assert redone(before, run(there, there / "run")) == set()


@pytest.mark.parametrize(("how", "wanted"), [
    ({"int8_weights": True}, {"export"}),
    ({"rate": 0.02}, {"train", "export"}),
    ({"epochs": 1}, {"train", "export"}),
    ({"training": {"learned_scales": True}}, {"train", "export"}),
    ({"method": "percentile:90"}, ALL),
    ({"keep_float": ("0/Conv",)}, ALL),
])  # fmt: skip
def test_an_option_redoes_what_it_can_change(home: Path, how: dict[str, Any], wanted: set[str]) -> None:
    assert redone(holds(home / "run"), run(home, home / "run", **how)) == wanted


def test_scales_that_were_trained_are_the_ranges_that_the_folder_tells(home: Path) -> None:
    before = {r.tensor: r.amax for r in holds(home / "run").ranges}
    after = {r.tensor: r.amax for r in run(home, home / "run", training={"learned_scales": True}).ranges}
    assert set(after) == set(before)
    assert all(after[name] != before[name] for name in before)


def test_edited_files_redo_what_reads_them(home: Path) -> None:
    out = home / "run"
    before = holds(out)
    shutil.copy(home / "data" / "train" / "0" / "0.png", home / "data" / "train" / "1" / "0.png")
    after = run(home, out)
    assert redone(before, after) == {"train", "export"}
    (home / "net.py").write_text(NETWORK.replace("nn.ReLU(), nn.Dropout", "nn.ReLU6(), nn.Dropout"))
    last = run(home, out)
    assert redone(after, last) == ALL
    (out / "trained.pt").write_bytes(b"damaged")
    assert "train" in redone(last, run(home, out))


@pytest.mark.parametrize(("package", "wanted"), [("torch", ALL), ("quantbench", ALL), ("onnxscript", {"export"})])
def test_another_version_redoes_what_it_can_change(
    home: Path, monkeypatch: pytest.MonkeyPatch, package: str, wanted: set[str]
) -> None:
    before = holds(home / "run")
    real = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: {**real, package: "99"})
    assert redone(before, run(home, home / "run")) == wanted


def test_a_version_that_nobody_looks_for_is_no_silent_gap_in_a_key() -> None:
    with pytest.raises(ValueError, match="no versions are kept of onxruntime"):
        provenance.chosen_versions("onxruntime")


def test_resuming_is_refused_where_it_would_mix_two_trainings(home: Path) -> None:
    out = home / "run"
    before = holds(out)
    for how, named in (
        ({"rate": 0.02}, r"rate 0\.01 then, 0\.02 now"),
        ({"training": {"seed": 3}}, "seed 0 then, 3 now"),
        ({"method": "percentile:90"}, "ranges [0-9a-f]{12} then"),
    ):
        with pytest.raises(QuantbenchError, match=f"cannot resume: .*{named}.*leave --resume out") as caught:
            run(home, out, epochs=3, resume=True, **how)
        assert "\n" not in str(caught.value)
    longer = run(home, out, epochs=3, resume=True)
    assert longer.training is not None
    assert before.training is not None
    assert (longer.training.started_at, len(longer.training.history)) == (2, 3)
    assert longer.training.history[:2] == before.training.history
    shutil.copy(home / "data" / "val" / "0" / "0.png", home / "data" / "train" / "1" / "0.png")
    with pytest.raises(QuantbenchError, match=r"cannot resume: .*data [0-9a-f]{12} then"):
        run(home, out, epochs=4, resume=True)
    assert "train" in redone(longer, run(home, out, epochs=4))


def test_overwrite_forgets_the_training_too(home: Path) -> None:
    out = home / "run"
    assert (out / ".quantbench" / "training" / "last-state.pt").exists()
    record = run(home, out, epochs=0, overwrite=True)
    assert record.training is None
    assert not (out / ".quantbench" / "training").exists()
    begun = run(home, out, epochs=2, resume=True)
    assert begun.training is not None
    assert begun.training.started_at == 0


def test_a_call_without_training_leaves_none_in_the_record(home: Path) -> None:
    record = run(home, home / "run", epochs=0)
    assert record.training is None
    assert set(record.stages) == {"calibrate", "export"}
    again = run(home, home / "run", epochs=2, resume=True)
    assert again.training is not None
    assert again.training.started_at == 2


def test_a_kill_at_any_file_operation_costs_one_epoch_and_no_bit(
    template: Path, tmp_path: Path, server: Server
) -> None:
    function = "tests.qat.small_run:main"
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    def call(out: Path, *words: str, at: int = 0) -> Call:
        return Call((str(template), str(out), *words), (str(out),), at, environment=environment, function=function)

    whole = server.run(call(tmp_path / "whole"))
    assert whole.code == 0, whole.output
    expected = made(tmp_path / "whole")
    steps = list(range(1, whole.steps + 1))
    assert len(steps) > 60
    for step in steps[4 :: len(steps) // 4]:
        out = tmp_path / f"run{step}"
        killed = server.run(call(out, at=step))
        assert killed.code == -signal.SIGKILL, killed.output
        resumed = server.run(call(out, "resume"))
        assert resumed.code == 0, resumed.output
        holds(out)
        assert made(out) == expected, killed.last


# Fault 12, the other half: what a recipe says of placement reaches torch's side too.


def test_best_placement_of_a_recipe_is_searched_for_and_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = pipeline.plan_for

    def plan_for(*arguments: Any, **more: Any) -> Any:
        asked.append(more["best"])
        return real(*arguments, **more)

    monkeypatch.setattr(pipeline, "plan_for", plan_for)
    recipe = Recipe().merged({"model": str(home / "net.pth"), "placement.method": "best", "placement.tensorrt": "8.6"})
    assert qat_request(recipe, torch_on="cpu", trust=False, resume=False).best_placement
    run(home, home / "run", best_placement=True)
    run(home, home / "run")
    assert asked == [PredictedFor(), None]
