"""Run folders, names and data that are not what they seem: one line, before the work, and nobody's file is touched."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantbench.data.array_calls import ArrayCalls
from quantbench.data.tensor_inputs import tensor_inputs
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model
from quantbench.images.arrays import ArrayFiles
from quantbench.images.folder import ImageFolder
from quantbench.run_folder import Identity, RunFolder
from tests.ptq.small_run import write_model


@pytest.fixture
def done(template: Path, tmp_path: Path) -> Path:
    """A finished run beside its model and data."""
    return shutil.copytree(template, tmp_path / "home")


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    """The same without the run."""
    return shutil.copytree(template, tmp_path / "home", ignore=shutil.ignore_patterns("run"))


def command(home: Path, *more: object) -> tuple[object, ...]:
    return ("ptq", home / "m.onnx", "--calib-data", home / "data", "--out", home / "run", "--no-compile",
            "--threads", 1, *more)  # fmt: skip


def error_line(error: str) -> str:
    lines = [line for line in error.splitlines() if line.startswith("quantbench: error:")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_overwrite_under_a_running_run_touches_nothing(cli: Any, done: Path) -> None:
    identity = json.loads((done / "run" / ".quantbench" / "identity.json").read_text())
    with RunFolder(done / "run").held(Identity(**identity)):
        before = content(done / "run")
        code, _, error = cli(*command(done), "--overwrite")
        assert code == 2
        assert f"is in use by process {os.getpid()} on " in error_line(error)
        assert content(done / "run") == before


def without_override(*arguments: object) -> tuple[int, str]:
    """quantbench as one to whom the permissions of files apply, root or not."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    own = [*(drop if os.geteuid() == 0 else []), sys.executable, "-m", "quantbench", *map(str, arguments)]
    done = subprocess.run(own, capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.fixture
def read_only(done: Path) -> Iterator[Path]:
    folders = [done / "run" / ".quantbench", done / "run"]
    for folder in folders:
        folder.chmod(0o555)
    yield done
    for folder in folders:
        folder.chmod(0o755)


def test_a_read_only_folder_is_refused_in_one_line_and_stays(read_only: Path) -> None:
    before = content(read_only / "run")
    code, error = without_override(*command(read_only), "--overwrite")
    assert code == 2
    assert f"cannot write {read_only / 'run'}" in error_line(error)
    assert "another --out" in error
    assert content(read_only / "run") == before


def test_a_linked_folder_is_followed(cli: Any, home: Path) -> None:
    (home / "elsewhere").mkdir()
    (home / "run").symlink_to(home / "elsewhere")
    assert cli(*command(home))[0] == 0
    assert cli(*command(home), "--overwrite")[0] == 0
    assert (home / "run").is_symlink()
    assert (home / "elsewhere" / "run.json").exists()


@pytest.mark.parametrize(
    "name", [".quantbench", ".quantbench/lock", ".quantbench/new", ".quantbench/identity.json", "run.json", "report.md"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_planted_link_is_refused_and_what_it_leads_to_stays(cli: Any, done: Path, name: str, overwrite: bool) -> None:
    out = done / "run"
    target = done / "victim"
    inside = out / name
    if inside.is_dir():
        inside.rename(target)
    else:
        target.write_bytes(inside.read_bytes() if inside.exists() else b"precious")
        inside.unlink(missing_ok=True)
    inside.symlink_to(target)
    before = content(target) if target.is_dir() else target.read_bytes()
    code, _, error = cli(*command(done), *(["--overwrite"] if overwrite else []))
    assert code == 2
    assert f"{inside} is a link" in error_line(error)
    assert (content(target) if target.is_dir() else target.read_bytes()) == before


@pytest.mark.parametrize("name", ["../precious.txt", "/precious.txt", "..", "sub/precious.txt"])
def test_a_record_that_names_files_elsewhere_removes_none(cli: Any, done: Path, name: str) -> None:
    out, precious = done / "run", done / "precious.txt"
    precious.write_text("mine")
    state = out / ".quantbench"
    stages = json.loads((state / "stages.json").read_text())
    path = str(precious) if name.startswith("/") else name
    stages["stages"]["quantize"]["outputs"][0]["path"] = path
    (state / "stages.json").write_text(json.dumps(stages))
    record = stages["stages"]["quantize"]
    (state / "commit.json").write_text(json.dumps({"record": record, "dropped": [], "files": [path], "keep": []}))
    # Records that cannot be believed tell of no outputs, so that a cache in the folder may be refused as a stranger's.
    assert cli(*command(done), "--overwrite")[0] in (0, 2)
    assert precious.read_text() == "mine"


def test_overwrite_spares_every_file_that_quantbench_did_not_write(cli: Any, done: Path) -> None:
    out = done / "run"
    own = {"notes.txt": b"mine", "sub/model.onnx": b"mine too", "calibration.old.cache": b"x"}
    for name, data in own.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(data)
    assert cli(*command(done), "--overwrite")[0] == 0
    assert {name: (out / name).read_bytes() for name in own} == own


# Names and values that no record can hold are refused before the run.


def test_names_that_are_no_utf8_are_refused_before_the_run(cli: Any, home: Path) -> None:
    odd = os.fsdecode(b"\xff\xfe.onnx")
    (home / odd).write_bytes((home / "m.onnx").read_bytes())
    (home / os.fsdecode(b"d\xff")).mkdir()
    cases = (
        (home / odd, home / "data", home / "run"),
        (home / "m.onnx", home / os.fsdecode(b"d\xff"), home / "run"),
        (home / "m.onnx", home / "data", home / os.fsdecode(b"run\xff")),
    )
    for model, data, out in cases:
        code, _, error = cli("ptq", model, "--calib-data", data, "--out", out, "--no-compile")
        assert code == 2
        assert "no UTF-8" in error_line(error)
        assert not out.exists()


@pytest.mark.parametrize("text", ["placement: {residual_db: .inf}", "data: {preprocess: {exact: 8, scale: .nan}}"])
def test_numbers_that_json_does_not_hold_are_refused_before_the_run(cli: Any, home: Path, text: str) -> None:
    (home / "r.yaml").write_text(text)
    code, _, error = cli(*command(home), "--recipe", home / "r.yaml")
    assert code == 2
    assert "finite" in error_line(error)
    assert not (home / "run").exists()


def test_pictures_whose_names_are_no_utf8_are_used(cli: Any, tmp_path: Path) -> None:
    folder = tmp_path / "imgs"
    folder.mkdir()
    write_model(tmp_path / "m.onnx")
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "a.png")
        (folder / "a.png").rename(folder / os.fsdecode(b"\xff%d.png" % number))
    (tmp_path / "r.yaml").write_text("data: {preprocess: {exact: 8, scale: 0.01}}\n")
    out = tmp_path / "run"
    code, _, error = cli("ptq", tmp_path / "m.onnx", "--calib-dir", folder, "--out", out, "--no-compile",
                         "--recipe", tmp_path / "r.yaml", "--threads", 1)  # fmt: skip
    assert (code, error) == (0, error)
    assert (out / "report.html").exists()


# Data that change while a run reads them.


def changed(path: Path, how: str) -> None:
    if how == "rewritten":
        path.write_bytes(path.read_bytes()[::-1])
    elif how == "replaced":
        other = path.with_name("other.tmp")
        other.write_bytes(path.read_bytes())
        os.utime(other, ns=(1, 1))
        other.rename(path)
    elif how == "cut":
        os.truncate(path, 200)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["rewritten", "replaced", "cut", "gone"])
@pytest.mark.parametrize("kind", ["pictures", "arrays", "calls"])
def test_a_file_that_changes_between_passes_is_noticed(home: Path, kind: str, how: str) -> None:
    if kind == "pictures":
        file = home / "p.png"
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file)
        source: Any = ImageFolder(home, recursive=False)
        look = lambda: source.picture(0)  # noqa: E731
    elif kind == "arrays":
        file = home / "data" / "0.npy"
        source = ArrayFiles(file)
        look = lambda: source.load(3)  # noqa: E731
    else:
        file = home / "data" / "0.npy"
        source = ArrayCalls(tensor_inputs(load_model(home / "m.onnx")), file)
        look = lambda: source.call(3)  # noqa: E731
    source.sha256()
    look()
    changed(file, how)
    with pytest.raises(QuantbenchError, match=r"changed while the run read it|is gone") as error:
        look()
    assert type(error.value) is QuantbenchError  # no bad image among others, which might be skipped
    assert str(file) in str(error.value)


def test_a_run_whose_picture_changes_says_so_and_records_nothing(cli: Any, home: Path, monkeypatch: Any) -> None:
    from quantbench.ptq import stages

    file, counted = home / "data" / "1.npy", stages.calibrate

    def then_changed(*given: Any) -> Any:
        found = counted(*given)
        changed(file, "replaced")
        return found

    monkeypatch.setattr(stages, "calibrate", then_changed)
    code, _, error = cli(*command(home))
    assert code == 2
    assert f"{file} changed while the run read it" in error_line(error)
    assert not (home / "run" / "run.json").exists()
