"""Fixtures that every test group shares; how tests are spread over processes."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quantbench import provenance
from quantbench.cli.main import app, register_commands
from quantbench.shipped import shipped_folder

# Files that share the demo run, or the parsed package, share a process; every other file has one of its own choice.
DEMO = ("ptq/test_acceptance.py", "inspection/test_inspect_demo.py")
SOURCES = ("cli/test_any_system.py", "cli/test_grain.py", "cli/test_walls.py", "cli/test_ways_out.py",
           "graph/test_ops.py")  # fmt: skip
GROUPS = {**dict.fromkeys(DEMO, "demo"), **dict.fromkeys(SOURCES, "sources")}
# What takes longest comes first, so that no process is left to run alone at the end.
LONG = ("qat/test_command.py", "ptq/test_run.py", *DEMO)
LONG_ROOMS = ("qat", "ptq", "decide", "evaluate")
_ticked = datetime.fromtimestamp(0, timezone.utc)
ARTEFACTS = Path(__file__).parent / "data" / "artefacts"


def pytest_configure(config: pytest.Config) -> None:
    """A core for each of several test processes: onnxruntime's threads wait by spinning, and those of one process
    would wait on the core that another needs (2.6 times the processor time of these tests)."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker.startswith("gw") and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker[2:]) % len(cores)]})


def _file(nodeid: str) -> str:
    """The file of a test, from its room on."""
    return nodeid.partition("::")[0].removeprefix("tests/")


def _group(nodeid: str) -> str:
    """Tests of one group run in one process."""
    file = _file(nodeid)
    return GROUPS.get(file, file)


def _rank(item: pytest.Item) -> int:
    file = _file(item.nodeid)
    return LONG.index(file) if file in LONG else len(LONG) + (file.split("/")[0] not in LONG_ROOMS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    items.sort(key=_rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of one file run in one process, for they share fixtures. Not by `--dist loadgroup`: pytest 9 does not take
    the names that pytest-xdist 3.8 gives to tests of a group, and each of them would go its own way."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    config.option.loadscopereorder = False  # by the number of tests, which says nothing of their time
    return ByFile(config, log)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process records has a second of its own each, later than all before: stages tell by their time that
    they ran again, and two short trainings may end within one second."""

    def later() -> str:
        global _ticked
        _ticked = max(datetime.now(timezone.utc).replace(microsecond=0), _ticked + timedelta(seconds=1))
        return _ticked.isoformat(timespec="seconds")

    monkeypatch.setattr(provenance, "utc", later)


@pytest.fixture(scope="module", autouse=True)
def _one_process_a_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where a second process takes tests of one file, it makes all their fixtures again: that is told, for only the
    time would show it."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker:
        group = _group(request.node.nodeid)
        taken = tmp_path_factory.getbasetemp().parent / f"process of {group}".replace("/", " ")
        with suppress(FileExistsError):
            taken.symlink_to(worker)  # made and filled in one step
        assert os.readlink(taken) == worker, f"tests of {group} run in two processes"


@pytest.fixture(scope="session", autouse=True)
def _few_rounds() -> Iterator[None]:
    """Latencies that `ptq` measures besides are of 20 rounds in place of 300; tests/evaluate has how they are taken."""
    from quantbench.ptq import measure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "interleaved", partial(measure.interleaved, most=20))
        yield


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
