"""A small real classifier and pictures to run whole PTQ runs on in seconds."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from quantbench.demo import resnet18
from tests.ptq.small_run import run, write_data, write_model


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-18 of width 8 for 64x64 images with a dynamic batch."""
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(resnet18.build(width=8, size=64, classes=10), path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve smooth coloured pictures of 96x80."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(12):
        coarse = rng.integers(0, 256, size=(6, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
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
