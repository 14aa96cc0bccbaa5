"""A torch checkpoint whose architecture a recipe names."""

from pathlib import Path

import onnx
import pytest
import torch

from quantbench import provenance
from quantbench.qat.export_checkpoint import export_checkpoint
from quantbench.recipe import Architecture

NETWORK = """
from torch import nn

def tiny(channels: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "net.py").write_text(NETWORK)
    scope: dict = {}
    exec(NETWORK, scope)
    torch.manual_seed(0)
    torch.save({"epoch": 3, "state_dict": scope["tiny"]().state_dict()}, tmp_path / "net.pth")
    path = tmp_path / "r.yaml"
    path.write_text(
        f"model: {tmp_path / 'net.pth'}\n"
        f"architecture:\n  factory: {tmp_path / 'net.py'}:tiny\n  input_shape: [3, 64, 64]\n"
    )
    return path


def test_a_checkpoint_runs_through(cli, recipe: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, _, error = cli("ptq", "--recipe", recipe, "--trust", "--calib-dir", pictures, "--out", out, "--no-compile")
    assert code == 0, error
    ops = [node.op_type for node in onnx.load(out / "model.qdq.onnx").graph.node]
    assert ops.count("Conv") == 2
    assert "QuantizeLinear" in ops


def test_an_edited_architecture_is_exported_anew(recipe: Path, tmp_path: Path) -> None:
    wanted = Architecture(factory=f"{tmp_path / 'net.py'}:tiny", input_shape=(3, 64, 64))
    first = export_checkpoint(tmp_path / "net.pth", wanted)
    written = first.stat().st_mtime_ns
    assert export_checkpoint(tmp_path / "net.pth", wanted) == first
    assert first.stat().st_mtime_ns == written
    (tmp_path / "net.py").write_text(NETWORK.replace("nn.ReLU(),", "nn.Sigmoid(),", 1))
    second = export_checkpoint(tmp_path / "net.pth", wanted)
    ops = [[node.op_type for node in onnx.load(path).graph.node] for path in (first, second)]
    assert ["Sigmoid" in found for found in ops] == [False, True]


def test_another_version_of_the_exporter_exports_anew(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Architecture(factory=f"{tmp_path / 'net.py'}:tiny", input_shape=(3, 64, 64))
    first = export_checkpoint(tmp_path / "net.pth", wanted)
    real = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: {**real, "onnxscript": "99"})
    assert export_checkpoint(tmp_path / "net.pth", wanted) != first


def test_what_does_not_fit_is_named(cli, recipe: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = recipe.read_text()
    recipe.write_text(text.replace("  input_shape", "  arguments: {channels: 9}\n  input_shape"))
    code, _, error = cli("ptq", "--recipe", recipe, "--trust", "--calib-dir", pictures, "--out", out)
    assert code == 2
    assert "does not fit" in error
    code, _, error = cli("ptq", tmp_path / "net.pth", "--calib-dir", pictures, "--out", out)
    assert code == 2
    assert "name its architecture in a recipe" in error
    assert not out.exists()
