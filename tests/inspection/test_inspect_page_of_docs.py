"""docs/inspect.md shows what the commands print: each block is run again (but for builds, which have their tests)."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantbench.cli.main import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "inspect.md").read_text(encoding="utf-8")
BLOCKS = [
    (command, shown)
    for block in re.findall(r"^```\n\$ quantbench (.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    for command, _, shown in [block.partition("\n")]
    if command.startswith(("inspect tests/", "explain "))
]


def test_the_page_has_them() -> None:
    assert [command.split()[0] for command, _ in BLOCKS] == ["inspect", "inspect", "explain"]


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command[:40] for command, _ in BLOCKS])
def test_a_block_is_what_the_command_prints(
    quantbench_cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, shown: str
) -> None:
    monkeypatch.chdir(ROOT)
    words = re.sub(r"--out \S+", f"--out {tmp_path}", command).split()
    result = quantbench_cli.invoke(app, words)
    assert result.exit_code == 0, result.output
    position = 0
    for line in shown.split("\n"):
        for piece in filter(str.strip, line.split("…")):
            found = result.output.find(piece.rstrip(), position)
            assert found >= 0, piece
            position = found


def test_the_verdict_shown_is_the_logs(quantbench_cli: CliRunner, tmp_path: Path) -> None:
    log = ROOT / "tests" / "data" / "artefacts" / "logs" / "trt852_qdq_yolo_verbose.log"
    printed = quantbench_cli.invoke(app, ["inspect", str(log), "--out", str(tmp_path)]).output
    (block,) = re.findall(r"^```\n(problem .*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    for line in block.split("\n"):
        assert line.strip(" …") in printed
