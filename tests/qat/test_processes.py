"""Two gloo processes: the ranges of one process, bit for bit; and a training that is killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ptq.small_run import holds, write_data, write_model
from tests.ptq.small_run import run as run_one
from tests.qat import process_jobs, small_run

_ROOT = Path(__file__).parents[2]
_SCRIPT = str(_ROOT / "tests" / "qat" / "process_jobs.py")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made_by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of every job, one after the other."""
    folder = tmp_path_factory.mktemp("two")
    small_run.write_home(folder / "home")
    (folder / "ptq").mkdir()
    write_model(folder / "ptq" / "m.onnx")
    write_data(folder / "ptq" / "data", files=3)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", _SCRIPT, "all",
               str(folder)]  # fmt: skip
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stderr, encoding="utf-8")
    return folder


def test_two_processes_calibrate_as_one(made_by_two: Path, tmp_path: Path) -> None:
    process_jobs.ranges(tmp_path / "ranges.json")
    found = _read(made_by_two / "ranges.json")
    assert found == _read(tmp_path / "ranges.json")
    assert len(found["tensors"]) >= 6


def test_two_processes_of_torchrun_make_the_run_of_one(made_by_two: Path, tmp_path: Path) -> None:
    folder = made_by_two / "ptq"
    alone = run_one(folder, tmp_path / "run", batch_size=1, threads=1)
    assert (folder / "run" / "ranges.json").read_bytes() == (tmp_path / "run" / "ranges.json").read_bytes()
    assert {n: s.key for n, s in holds(folder / "run").stages.items()} == {n: s.key for n, s in alone.stages.items()}
    assert "Process 1 of 2 counted" in (made_by_two / "said").read_text(encoding="utf-8")


def test_two_processes_train_alike(made_by_two: Path) -> None:
    first, second = _read(made_by_two / "rank0.json"), _read(made_by_two / "rank1.json")
    assert first == second
    assert first["epochs"] == 2


def test_two_processes_make_one_run_folder_that_one_process_finds_done(made_by_two: Path) -> None:
    home, out = made_by_two / "home", made_by_two / "run"
    made = small_run.holds(out)
    assert made.training is not None
    assert made.training.epochs == 2
    again = small_run.run(home, out)
    assert {n: s.provenance for n, s in again.stages.items()} == {n: s.provenance for n, s in made.stages.items()}


def test_a_killed_training_loses_at_most_one_epoch(tmp_path: Path) -> None:
    command = [sys.executable, _SCRIPT, "train", str(tmp_path), "6"]
    running = subprocess.Popen(command, env={**_environment(), "QAT_SLOW": "0.3"})
    state = tmp_path / "training" / "last-state.pt"
    deadline = time.monotonic() + 60
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    running.send_signal(signal.SIGKILL)
    running.wait()
    whole = torch.load(state, weights_only=True)["epoch"] + 1
    assert 1 <= whole < 6
    process_jobs.train(tmp_path, 6, resume=True)
    result = _read(tmp_path / "rank0.json")
    assert result["started_at"] == whole
    assert result["epochs"] == 6
