"""What makes a run this run and no other: its folder, the content of its calibrator, the images that it uses."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from quantbench.errors import QuantbenchError
from quantbench.ptq import pipeline
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest
from tests.ptq.small_run import OWN, run, write_data

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


def test_a_shipped_calibrator_has_its_content_in_the_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = home / "shipped.py"
    monkeypatch.setattr("quantbench.load_object.shipped_names", lambda kind, suffix: {"mine": shipped})
    monkeypatch.setattr("quantbench.ptq.calibrator_choice.shipped_names", lambda kind, suffix: {"mine": shipped})
    found = []
    for value in (1000.0, 500.0):
        shipped.write_text(OWN.format(value=value) + "\n\nCALIBRATOR = Own\n")
        found.append(pipeline.prepare(request(home, "mine")).choice)
    assert found[0].method == found[1].method == "mine"
    assert found[0].key() != found[1].key()
    # Through a whole run: what the edited file feeds is what counts.
    for value, choice in ((1000.0, found[0]), (500.0, found[1])):
        shipped.write_text(OWN.format(value=value) + "\n\nCALIBRATOR = Own\n")
        run(home, home / "shipped", calibrator="mine")
        ranges = json.loads((home / "shipped" / "ranges.json").read_text())["tensors"]
        assert ranges["x"]["amax"] == value, choice


def request(home: Path, calibrator: str) -> PtqRequest:
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
