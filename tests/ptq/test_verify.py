"""`quantbench verify` sees every change of a run's files, its model and its data, and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ptq.small_run import write_data, write_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    write_model(folder / "m.onnx")
    write_data(folder / "data")
    write_data(folder / "held", seed=9)
    return folder


@pytest.fixture
def home(made: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose model and data are named relative to the working folder; made anew where a test changed it."""
    monkeypatch.chdir(made)
    write_model(made / "m.onnx")
    write_data(made / "data")
    write_data(made / "held", seed=9)
    code, _, error = cli("ptq", "m.onnx", "--calib-data", "data", "--eval-data", "held", "--out", "run", "--no-compile",
                         "--threads", 1, "--calibrator", "minmax")  # fmt: skip
    assert code == 0, error
    return made


def changed(cli: Any, *more: object) -> tuple[int, set[str]]:
    code, out, _ = cli("verify", "run", "--json", *more)
    return code, {item["what"] for item in json.loads(out)["checked"] if item["change"]}


def test_an_untouched_run_is_unchanged(cli: Any, home: Path) -> None:
    code, out, error = cli("verify", "run")
    assert (code, error) == (0, "")
    assert "model.qdq.onnx: unchanged" in out
    assert "calibration data data: unchanged" in out
    assert "evaluation data held: unchanged" in out
    assert out.splitlines()[-1].startswith("0 of ")


@pytest.mark.parametrize("name", ["model.qdq.onnx", "model.ort.onnx", "calibration.cache", "ranges.json"])
@pytest.mark.parametrize("how", ["bit", "cut", "gone"])
def test_a_changed_output_is_told(cli: Any, home: Path, name: str, how: str) -> None:
    path = home / "run" / name
    kept = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(kept[:-1] if how == "cut" else kept[:-1] + bytes([kept[-1] ^ 1]))
    code, found = changed(cli, "--no-data")
    path.write_bytes(kept)
    assert (code, found) == (1, {name})


def test_a_changed_model_and_changed_data_are_told(cli: Any, home: Path) -> None:
    write_model(home / "m.onnx", seed=5)
    np.save(home / "held" / "0.npy", np.zeros((4, 3, 8, 8), np.float32))
    assert changed(cli) == (1, {"model m.onnx", "evaluation data held"})
    assert changed(cli, "--no-data") == (1, {"model m.onnx"})
    shutil.rmtree(home / "data")
    assert "calibration data data" in changed(cli)[1]


def test_records_that_contradict_each_other_are_told(cli: Any, home: Path) -> None:
    stages = home / "run" / ".quantbench" / "stages.json"
    kept = stages.read_text()
    stages.write_text(kept.replace('"key": "', '"key": "0', 1))
    code, found = changed(cli, "--no-data")
    stages.write_text(kept)
    assert (code, found) == (1, {"run.json"})


def test_code_of_a_stranger_is_not_run_to_verify(cli: Any, home: Path) -> None:
    record = json.loads((home / "run" / "run.json").read_text())
    record["recipe"]["data"]["calib_dir"] = "evil.py:items"
    (home / "evil.py").write_text("raise SystemExit(9)\n")
    kept = (home / "run" / "run.json").read_text()
    (home / "run" / "run.json").write_text(json.dumps(record))
    code, out, _ = cli("verify", "run")
    (home / "run" / "run.json").write_text(kept)
    assert code == 0
    assert "data: not checked: the recipe names code (evil.py:items)" in out


def test_a_folder_that_is_no_run(cli: Any, tmp_path: Path) -> None:
    code, _, error = cli("verify", tmp_path)
    assert code == 2
    assert len(error.splitlines()) == 1
