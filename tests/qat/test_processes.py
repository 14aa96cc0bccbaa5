"""Two gloo processes: the ranges of one process, bit for bit; and a training that is killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tests.qat import small_run

_ROOT = Path(__file__).parents[2]


def _torchrun(processes: int, *arguments: str) -> list[str]:
    script = str(_ROOT / "tests" / "qat" / "process_jobs.py")
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), script,
            *arguments]  # fmt: skip


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_two_processes_calibrate_as_one(tmp_path: Path) -> None:
    for processes in (1, 2):
        out = str(tmp_path / f"{processes}.json")
        subprocess.run(_torchrun(processes, "ranges", out), check=True, env=_environment(), capture_output=True)
    assert _read(tmp_path / "1.json") == _read(tmp_path / "2.json")
    assert len(_read(tmp_path / "2.json")["tensors"]) >= 6


def test_two_processes_train_alike(tmp_path: Path) -> None:
    subprocess.run(_torchrun(2, "train", str(tmp_path), "2"), check=True, env=_environment(), capture_output=True)
    first, second = _read(tmp_path / "rank0.json"), _read(tmp_path / "rank1.json")
    assert first == second
    assert first["epochs"] == 2


def test_two_processes_make_one_run_folder_that_one_process_finds_done(tmp_path: Path) -> None:
    home, out = small_run.write_home(tmp_path / "home"), tmp_path / "run"
    subprocess.run(_torchrun(2, "export", str(home), str(out)), check=True, env=_environment(), capture_output=True)
    made = small_run.holds(out)
    assert made.training is not None
    assert made.training.epochs == 2
    again = small_run.run(home, out)
    assert {n: s.provenance for n, s in again.stages.items()} == {n: s.provenance for n, s in made.stages.items()}


def test_a_killed_training_loses_at_most_one_epoch(tmp_path: Path) -> None:
    command = [sys.executable, str(_ROOT / "tests/qat/process_jobs.py"), "train", str(tmp_path), "6"]
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
    subprocess.run([*command, "--resume"], check=True, env=_environment())
    result = _read(tmp_path / "rank0.json")
    assert result["started_at"] == whole
    assert result["epochs"] == 6
