"""Fixtures that every test group shares; how tests are spread over processes."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantbench.cli.main import app, register_commands
from quantbench.shipped import shipped_folder

# Groups of the longest files: their processes start first, so that none is left to run alone at the end.
LONG = ("ptq", "qat", "decide", "evaluate", "trtexec")
# Files that share the demo run share a process; every other file has one of its own choice.
OF_THE_DEMO = ("test_acceptance.py", "test_inspect_demo.py")
ARTEFACTS = Path(__file__).parent / "data" / "artefacts"


def pytest_configure(config: pytest.Config) -> None:
    """A core for each of several test processes: onnxruntime's threads wait by spinning, and those of one process
    would wait on the core that another needs (2.6 times the processor time of these tests)."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker.startswith("gw") and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker[2:]) % len(cores)]})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long groups first; tests of one file in one process (`--dist loadgroup`), for they share fixtures."""
    items.sort(key=lambda item: item.path.parent.name not in LONG and item.path.name not in OF_THE_DEMO)
    for item in items if "PYTEST_XDIST_WORKER" in os.environ else ():
        group = "demo" if item.path.name in OF_THE_DEMO else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


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
