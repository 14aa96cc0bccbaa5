"""The commands of docs/moving-to-tensorrt-11.md, in the order of the page, on a real cache and model."""

import json
import re
import shlex
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from quantbench.cache.tensorrt import render
from quantbench.cli.cache import app

PAGE = Path(__file__).parents[2] / "docs" / "moving-to-tensorrt-11.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(("quantbench cache ", "cmp "))]


def test_every_cache_command_is_on_the_page() -> None:
    named = {command[2] for command in commands() if command[0] == "quantbench"}
    assert named == {command.name or command.callback.__name__ for command in app.registered_commands}


def test_the_page_can_be_followed_line_by_line(case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(case.model, "model.onnx")
    Path("calib.cache").write_text(render(case.ranges))
    Path("newrun").mkdir()
    Path("newrun/ranges.json").write_text(json.dumps(case.ranges.to_json()))
    compared = 0
    for command in commands():
        if command[0] == "cmp":
            assert Path(command[1]).read_bytes() == Path(command[2]).read_bytes(), command
            compared += 1
            continue
        result = CliRunner().invoke(app, command[2:])
        assert result.exit_code == 0, (command, result.output, result.exception)
        for flag in ("-o", "--out"):
            if flag in command:
                assert Path(command[command.index(flag) + 1]).stat().st_size > 0
    assert compared == 2
