"""What `quantbench doctor --report` prints can be pasted in public."""

import getpass
from pathlib import Path
from typing import Any

import pytest

import quantbench
from quantbench.cli.bug_report import without_home


def test_it_says_what_is_needed_and_nothing_of_the_home_folder(
    cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home" / getpass.getuser()
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("QUANTBENCH_CACHE", str(home / "cache"))
    (tmp_path / "quantbench-error-x.txt").write_text(f"quantbench lint {home}/secret/m.onnx\nTraceback …\n")
    code, out, error = cli("doctor", "--report")
    assert (code, error) == (0, "")
    for needed in (f"quantbench {quantbench.__version__}", "onnxruntime ", "python ", "cores", "Traceback",
                   "QUANTBENCH_CACHE=~/cache", "quantbench lint ~/secret/m.onnx"):  # fmt: skip
        assert needed in out
    assert str(home) not in out


def test_the_name_of_the_user_goes_from_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    assert without_home("/media/anna/disk/m.onnx and annabel") == "/media/USER/disk/m.onnx and annabel"
