"""Builds that several tests inspect; each is made once a session."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantbench.cli.main import app, register_commands
from quantbench.shipped import shipped_folder


@pytest.fixture(scope="session")
def quantbench_cli() -> CliRunner:
    """Runs `quantbench …` in this process."""
    if not any(command.name == "inspect" for command in app.registered_commands):
        register_commands()
    return CliRunner()


@pytest.fixture(scope="session")
def demo_run(quantbench_cli: CliRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the main job: EfficientNet-Lite0, calibrated on photos, compiled by TensorRT-RTX."""
    folder = tmp_path_factory.mktemp("demo")
    images, recipe, run = folder / "imgs", folder / "demo.yaml", folder / "run"
    text = (shipped_folder("recipes") / "demo.yaml").read_text()
    assert "crops=300" in text
    recipe.write_text(text.replace("crops=300\n", "crops=4\n  latency: false\n"))
    for command in (["demo-images", images, "--count", 4], ["ptq", "--recipe", recipe, "--calib-dir", images]):
        arguments = [str(word) for word in command]
        done = quantbench_cli.invoke(app, [*arguments, "--out", str(run)] if command[0] == "ptq" else arguments)
        assert done.exit_code == 0, (done.output, done.exception)
    return run


@pytest.fixture(scope="session")
def demo_engine(quantbench_cli: CliRunner, demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model.engine` as `quantbench build model.qdq.onnx` leaves it, its log and its layers beside it."""
    engine = tmp_path_factory.mktemp("built") / "lite0.engine"
    words = ["build", str(demo_run / "model.qdq.onnx"), "--backend", "tensorrt-rtx", "--out", str(engine)]
    done = quantbench_cli.invoke(app, words)
    assert done.exit_code == 0, (done.output, done.exception)
    return engine
