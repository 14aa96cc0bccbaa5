"""Fixtures that every test group shares."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantbench.cli.main import app, register_commands
from quantbench.shipped import shipped_folder

ARTEFACTS = Path(__file__).parent / "data" / "artefacts"


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Real logs, layer JSON, profiles and caches; sources and licences in its MANIFEST.tsv."""
    return ARTEFACTS


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `quantbench …` as typed; returns (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        from quantbench.cli.main import main

        monkeypatch.setattr("sys.argv", ["quantbench", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def quantbench_cli() -> CliRunner:
    """Runs `quantbench …` in this process."""
    register_commands()
    return CliRunner()


@pytest.fixture(scope="session")
def demo_run(quantbench_cli: CliRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the main job: EfficientNet-Lite0, calibrated on 32 photos, compared on 96 crops of others,
    compiled by TensorRT-RTX. minmax: which method is best is judged elsewhere (tests/core)."""
    folder = tmp_path_factory.mktemp("demo")
    images, recipe, run = folder / "imgs", folder / "demo.yaml", folder / "run"
    text = (shipped_folder("recipes") / "demo.yaml").read_text(encoding="utf-8")
    assert "crops=300" in text
    recipe.write_text(text.replace("crops=300\n", "crops=96\n  latency: false\n"), encoding="utf-8")
    for command in (
        ["demo-images", images, "--count", 32],
        ["ptq", "--recipe", recipe, "--calib-dir", images, "--calibrator", "minmax", "--out", run],
    ):
        done = quantbench_cli.invoke(app, [str(word) for word in command])
        assert done.exit_code == 0, (done.output, done.exception)
    return run
