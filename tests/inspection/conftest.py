"""Builds that several tests inspect; each is made once a session."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantbench.cli.main import app


@pytest.fixture(scope="session")
def demo_engine(quantbench_cli: CliRunner, demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model.engine` as `quantbench build model.qdq.onnx` leaves it, its log and its layers beside it."""
    engine = tmp_path_factory.mktemp("built") / "lite0.engine"
    words = ["build", str(demo_run / "model.qdq.onnx"), "--backend", "tensorrt-rtx", "--out", str(engine)]
    done = quantbench_cli.invoke(app, words)
    assert done.exit_code == 0, (done.output, done.exception)
    return engine
