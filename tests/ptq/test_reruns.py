"""A run folder after all that can happen to it between two calls: what it says is what it holds."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantbench.provenance as provenance
import quantbench.ptq.prepare as prepare
from quantbench.errors import QuantbenchError
from quantbench.graph.view import GraphView
from quantbench.ptq import pipeline
from quantbench.ptq.request import ModelChoice, PtqRequest
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.records.run import PtqRun
from quantbench.run_folder import Identity, RunFolder
from tests.ptq.small_run import holds, run, write_data, write_model

OWN = """
import numpy as np
from quantbench.calibrator import Calibrator


class Own(Calibrator):
    method = "minmax"

    def restart(self):
        self.left = 2

    def get_batch(self, names):
        self.left -= 1
        return [np.full((1, 3, 8, 8), {value}, np.float32)] if self.left >= 0 else None
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with m.onnx, data, and a finished run."""
    folder = tmp_path_factory.mktemp("template")
    write_model(folder / "m.onnx")
    write_data(folder / "data")
    run(folder, folder / "run")
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template; hashes of files are remembered in it alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(template, tmp_path / "home")
    return tmp_path / "home"


def ended(record: PtqRun) -> dict[str, tuple[str, float]]:
    """When each stage ran: equal where none was done anew."""
    return {name: (stage.provenance.time, stage.provenance.seconds) for name, stage in record.stages.items()}


def keys(record: PtqRun) -> dict[str, str]:
    return {name: stage.key for name, stage in record.stages.items()}


def amax(out: Path, tensor: str = "x") -> float:
    import json

    return float(json.loads((out / "ranges.json").read_text())["tensors"][tensor]["amax"])


# Fault 1: the key of the histograms lacks the calibrator and what it feeds.


def test_refresh_with_a_calibrator_that_brings_its_own_data(home: Path) -> None:
    out, own = home / "run", home / "own.py"
    assert amax(out) < 10
    own.write_text(OWN.format(value=1000.0))
    run(home, out, calibrator=f"{own}:Own", cache="refresh")
    assert amax(out) == 1000.0
    # Another of the same name, and the same with another content.
    other = home / "other"
    other.mkdir()
    (other / "own.py").write_text(OWN.format(value=500.0))
    run(home, out, calibrator=f"{other / 'own.py'}:Own", cache="refresh")
    assert amax(out) == 500.0
    own.write_text(OWN.format(value=250.0))
    with pytest.raises(QuantbenchError, match="belongs to another method"):
        run(home, out, calibrator=f"{own}:Own")
    holds(out)
    run(home, out, calibrator=f"{own}:Own", cache="refresh")
    assert amax(out) == 250.0


# Fault 2: a cache that is taken as it is poisons the next plain run.


def test_a_changed_cache_is_taken_only_on_request_and_never_passes_for_calibrated(home: Path) -> None:
    out = home / "run"
    first = holds(out)
    cache = out / "calibration.cache"
    lines = cache.read_text().splitlines()
    cache.write_text("\n".join([lines[0], *(f"{line.split(': ')[0]}: 3f800000" for line in lines[1:])]) + "\n")
    with pytest.raises(QuantbenchError, match="was changed since it was written; --reuse-cache"):
        run(home, out)
    assert amax(out) != 127.0
    taken = run(home, out, cache="reuse")
    assert amax(out) == 127.0
    assert (taken.calibration.method, taken.calibration.source) == ("cache calibration.cache", "calibration.cache")
    with pytest.raises(QuantbenchError, match="was changed since it was written"):
        run(home, out)
    again = run(home, out, cache="refresh")
    assert (again.calibration.method, again.calibration.source) == ("minmax", "images")
    assert [o.sha256 for o in again.stages["calibrate"].outputs] == [
        o.sha256 for o in first.stages["calibrate"].outputs
    ]


# Fault 3: keys without the Plan and without versions.


def test_a_changed_rule_changes_model_and_record_together(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = home / "run"
    assert set(holds(out).placement.quantized) == {"conv1", "conv2"}

    def other(view: GraphView, options: PlacementOptions) -> Any:
        return place(view, PlacementOptions(keep_float=("conv1",)))

    monkeypatch.setattr(prepare, "place", other)
    assert set(run(home, out).placement.quantized) == {"conv2"}  # `run` holds the model against it


@pytest.mark.parametrize("package", ["quantbench", "onnxruntime", "onnx-graphsurgeon"])
def test_another_version_redoes_what_it_can_change(home: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    out = home / "run"
    before = holds(out)
    real = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: {**real, package: "99"})
    after = run(home, out)
    changed = {name for name in before.stages if keys(before)[name] != keys(after)[name]}
    assert changed == ({"quantize"} if package == "onnx-graphsurgeon" else {"calibrate", "quantize", "evaluate"})
    for name in changed:
        assert after.stages[name].provenance.versions[package] == "99"


# Fault 4: old measurements get a new date, machine and version.


def test_what_was_measured_keeps_its_machine_and_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = home / "run"
    before = holds(out)
    monkeypatch.setattr(provenance, "_processor", lambda: "Another CPU")
    monkeypatch.setattr(provenance, "utc", lambda: "2099-01-01T00:00:00+00:00")
    after = run(home, out)
    assert after.provenance.machine.processor == "Another CPU"
    assert {name: s.provenance for name, s in after.stages.items()} == {
        name: s.provenance for name, s in before.stages.items()
    }


# Fault 5, and a kill between any two writes.


class Killed(BaseException):
    """Stands in for a kill: from some file operation on none is carried out any more."""


class Killer:
    """Counts operations on files and refuses them from the `limit`-th on, clean-up included."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        self.count, self.limit = 0, limit
        for owner, name in ((os, "replace"), (os, "unlink"), (Path, "unlink"), (shutil, "rmtree"), (os, "fsync")):
            monkeypatch.setattr(owner, name, self._guarded(getattr(owner, name)))

    def _guarded(self, real: Any) -> Any:
        def operation(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count > self.limit:
                raise Killed
            return real(*args, **kwargs)

        return operation


def outputs(out: Path) -> dict[str, bytes]:
    names = ("ranges.json", "calibration.cache", "model.qdq.onnx", "model.ort.onnx", "evaluation.json")
    return {name: (out / name).read_bytes() for name in names}


def steps(monkeypatch: pytest.MonkeyPatch, folder: Path, out: Path, **how: Any) -> int:
    with monkeypatch.context() as patched:
        killer = Killer(patched, 10**9)
        run(folder, out, **how)
    return killer.count


@pytest.mark.parametrize("again", [False, True])
def test_a_kill_at_any_file_operation_costs_nothing(home: Path, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """In a new folder, and in one that holds a run with other data, which the killed call was to replace."""
    other = home / "other"
    other.mkdir()
    shutil.copy(home / "m.onnx", other / "m.onnx")
    write_data(other / "data", seed=50)
    how: dict[str, Any] = {"cache": "refresh"} if again else {}

    if again:
        run(other, home / "begun")

    def begin(out: Path) -> Path:
        if again:
            shutil.copytree(home / "begun", out)
        return out

    total = steps(monkeypatch, home, begin(home / "whole"), **how)
    expected = outputs(home / "whole")
    assert total > 20
    for limit in range(1, total, total // 8):
        out = begin(home / f"run{limit}")
        with monkeypatch.context() as patched:
            Killer(patched, limit)
            with pytest.raises(Killed):
                run(home, out, **how)
        run(home, out, **how)
        assert outputs(out) == expected, limit


def test_half_a_calibration_of_other_data_is_not_gone_on_with(home: Path) -> None:
    out, other = home / "run", home / "other"
    other.mkdir()
    shutil.copy(home / "m.onnx", other / "m.onnx")
    write_data(other / "data", seed=50)
    run(other, home / "else")
    shutil.copy(out / ".quantbench" / "histograms.npz", home / "kept.npz")
    shutil.rmtree(out)
    run(other, out)
    shutil.copy(home / "kept.npz", out / ".quantbench" / "histograms.npz")
    run(other, out, cache="refresh")
    assert outputs(out) == outputs(home / "else")


# Fault 6: two at once.


def test_a_second_run_is_told_who_holds_the_folder(home: Path, cli: Any) -> None:
    out = home / "run"
    before = holds(out)
    command = ("ptq", home / "m.onnx", "--calib-dir", home / "data", "--out", out, "--no-compile")
    with RunFolder(out).held(Identity("ptq", "m", before.model.sha256)):
        code, _, error = cli(*command)
    assert code == 2
    line = next(line for line in error.splitlines() if line.startswith("quantbench: error:"))
    assert f"is in use by process {os.getpid()} on " in line
    assert cli(*command)[0] == 0
    holds(out)


# Fault 7: --overwrite, and the same model by another path.


def test_overwrite_begins_anew_and_spares_what_others_put_there(home: Path) -> None:
    out = home / "run"
    before = holds(out)
    (out / "notes.txt").write_text("mine")
    after = run(home, out, overwrite=True)
    assert all(after.stages[name].provenance.time >= s.provenance.time for name, s in before.stages.items())
    assert ended(after) != ended(before)
    assert (out / "notes.txt").read_text() == "mine"


def test_the_same_model_by_another_path_is_the_same_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = home / "run"
    before = holds(out)
    monkeypatch.chdir(home)
    assert ended(run(home, out, model="m.onnx")) == ended(before)


def test_a_moved_run_and_moved_data_are_gone_on_with(home: Path) -> None:
    before = holds(home / "run")
    there = home / "there"
    there.mkdir()
    for name in ("m.onnx", "data", "run"):
        shutil.move(home / name, there / name)
    assert ended(run(there, there / "run")) == ended(before)


@pytest.mark.parametrize("name", ["training/last.pt", ".quantbench/histograms.npz", ""])
def test_a_fault_of_the_input_spares_what_took_time(tmp_path: Path, name: str) -> None:
    out = tmp_path / "made"

    def work() -> None:
        with RunFolder(out).held(Identity("qat-export", "m", "0")):
            if name:
                (out / name).parent.mkdir(exist_ok=True)
                (out / name).write_bytes(b"an hour's work")
            raise QuantbenchError("late")

    with pytest.raises(QuantbenchError, match="late"):
        work()
    assert out.exists() == bool(name)
    assert not name or (out / name).exists()


# Fault 8: content of what is named by module or shipped.


def test_a_calibrator_in_a_package_has_its_content_in_the_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = home / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(home))
    found = []
    for value in (1000.0, 500.0):
        (package / "calibrators.py").write_text(OWN.format(value=value))
        for name in ("mine.calibrators", "mine"):
            monkeypatch.delitem(__import__("sys").modules, name, raising=False)
        __import__("importlib").invalidate_caches()
        found.append(pipeline.prepare(request(home, "mine.calibrators:Own")).choice)
    assert found[0].key() != found[1].key()
    assert found[0].feeder != found[1].feeder


def request(home: Path, calibrator: str) -> PtqRequest:
    from quantbench.ptq.request import DataChoice

    return PtqRequest(ModelChoice(str(home / "m.onnx")), DataChoice(home / "data"), calibrator=calibrator)


# Fault 9: default folders.


def test_default_folders_differ_where_calibrators_do() -> None:
    specs = ("minmax", "percentile", "percentile:99.9", "percentile:99.99", "cal.py:A", "cal.py:B", "x/cal.py:A")
    folders = [pipeline.default_folder(PtqRequest(ModelChoice("m.onnx"), calibrator=spec)) for spec in specs]
    assert len(set(folders)) == len(specs)
    assert folders[0] == Path("runs/m-minmax")
    assert folders[2] == Path("runs/m-percentile-99.9")
    assert all(folder.parent == Path("runs") for folder in folders)


# Fault 10: only what is used is hashed, and once.


def test_only_used_images_are_hashed_and_only_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import quantbench.images.remember as remember

    write_data(home / "data", files=5)
    for file in (home / "data").iterdir():
        os.utime(file, (1_700_000_000, 1_700_000_000))
    read: list[str] = []
    real = remember._hash

    def hashed(path: Path) -> str:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(remember, "_hash", hashed)
    run(home, home / "new", max_images=2)
    assert sorted(set(read)) == ["0.npy", "4.npy"]
    read.clear()
    run(home, home / "new", max_images=2)
    assert read == []
    np.save(home / "data" / "4.npy", np.zeros((4, 3, 8, 8), np.float32))
    with pytest.raises(QuantbenchError, match="belongs to another data"):
        run(home, home / "new", max_images=2)
    assert set(read) == {"4.npy"}


# Fault 11: faults of the evaluation come before the work.


def test_a_broken_evaluation_image_is_told_before_anything_runs(cli, home: Path, small_model: Path) -> None:
    from PIL import Image

    for folder in ("good", "evaluation"):
        (home / folder).mkdir()
        for number in range(3):
            Image.new("RGB", (80, 80), (10 * number, 50, 90)).save(home / folder / f"{number}.png")
    (home / "evaluation" / "9.png").write_bytes(b"no picture")
    out = home / "out"
    code, _, error = cli("ptq", small_model, "--calib-dir", home / "good", "--eval-dir", home / "evaluation",
                         "--out", out, "--no-compile")  # fmt: skip
    assert code == 2
    assert "9.png" in error
    assert "Calibrating" not in error
    assert not out.exists()


# Fault 12: what a recipe says and a command does not do.


def test_keys_that_do_nothing_are_told(cli, home: Path) -> None:
    recipe = home / "r.yaml"
    recipe.write_text("seed: 7\ntraining: {epochs: 3}\nevaluation: {latency: false}\n")
    out = home / "new"
    code, _, error = cli("ptq", home / "m.onnx", "--calib-dir", home / "data", "--recipe", recipe, "--out", out,
                         "--no-compile")  # fmt: skip
    assert code == 0, error
    assert "recipe: seed, training do nothing in ptq" in error
    assert "Seed" not in (out / "report.md").read_text()


def test_model_input_preprocessing_and_images_are_told_before_the_first_image(cli, home: Path) -> None:
    code, _, error = cli("ptq", home / "m.onnx", "--calib-dir", home / "data", "--out", home / "new", "--no-compile")
    assert code == 0, error
    told, _, rest = error.partition("Calibrating")
    assert rest
    assert "m.onnx: input x float32[N, 3, 8, 8], 2 of 3 weighted layers get Q/DQ" in told
    assert "Preprocessing: none (arrays are taken as they are stored)" in told
    assert f"Calibration: minmax on 8 images, {home / 'data'}" in told


# Outputs that are damaged are made anew, not kept.


@pytest.mark.parametrize("name", ["ranges.json", "model.qdq.onnx", "model.ort.onnx", "evaluation.json"])
def test_a_damaged_output_is_made_anew(home: Path, name: str) -> None:
    out = home / "run"
    whole = outputs(out)
    for damaged in (b"", whole[name][: len(whole[name]) // 2], None):
        (out / name).unlink()
        if damaged is not None:
            (out / name).write_bytes(damaged)
        run(home, out)
        assert outputs(out) == whole


def test_damaged_histograms_are_counted_anew(home: Path) -> None:
    out = home / "run"
    whole, histograms = outputs(out), out / ".quantbench" / "histograms.npz"
    content = histograms.read_bytes()
    for damaged in (b"", content[: len(content) // 2], content[:60] + bytes(40) + content[100:]):
        histograms.write_bytes(damaged)
        run(home, out, cache="refresh")
        assert outputs(out) == whole


def test_a_damaged_record_of_stages_means_doing_all_anew(home: Path) -> None:
    out = home / "run"
    whole = outputs(out)
    for text in ("", "{", '{"stages": {"calibrate": 1}}'):
        (out / ".quantbench" / "stages.json").write_text(text)
        run(home, out)
        assert outputs(out) == whole
    onnx.checker.check_model(str(out / "model.qdq.onnx"))
