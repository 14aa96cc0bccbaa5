"""Fixtures that every test group shares."""

from pathlib import Path

import pytest

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
