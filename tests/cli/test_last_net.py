"""Whatever goes wrong, a user reads one line: errors of ours, signals, closed pipes, codes hidden in names."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quantbench import limits
from quantbench.errors import QuantbenchError
from quantbench.predict.words import COLUMNS
from quantbench.terminal import console, one_line, printable
from scripts.fuzz_networks import small


def test_an_unexpected_error_is_one_line_with_the_command_and_its_details(cli, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("quantbench.core.qdq_or_not.require_qdq", _broken, raising=True)
    model = tmp_path / "model.onnx"
    model.write_bytes(_tiny_model())
    code, _, error = cli("lint", model)
    assert code == 70
    (line,) = error.splitlines()
    assert "ZeroDivisionError" in line
    assert f"'quantbench lint {model}'" in line
    (details,) = tmp_path.glob("quantbench-error-*.txt")
    assert str(details) in line
    assert "Traceback" in details.read_text(encoding="utf-8")


def test_debug_prints_the_traceback(cli, monkeypatch) -> None:
    monkeypatch.setenv("QUANTBENCH_DEBUG", "")
    code, _, error = cli("--debug", "lint", "missing.onnx")
    assert code == 2
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("quantbench: error: ")


def _broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("division by zero")


def _tiny_model() -> bytes:
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "act")], "g", values[:1], values[1:])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_one_line(number: signal.Signals, code: int, tmp_path: Path) -> None:
    waiting = (
        "import time\nimport quantbench.cli.main as m\nfrom quantbench.__main__ import main\n"
        "def wait():\n    print('ready', flush=True)\n    time.sleep(30)\n"
        "m._run = wait\nmain()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", waiting], stdout=-1, stderr=-1, text=True, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == code
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m quantbench explain | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


HOSTILE = "a\x1b]0;owned\x07b\x9b31mc\u202edetcelfer\x7f"


def test_control_characters_of_names_are_escaped() -> None:
    assert printable(HOSTILE) == "a\\x1b]0;owned\\x07b\\u009b31mc\\u202edetcelfer\\u007f"
    assert one_line("two\nlines\t") == "two\\nlines\\t"
    assert printable("ordinary: ü → 日本\n") == "ordinary: ü → 日本\n"


def test_an_error_line_shows_no_raw_code(cli) -> None:
    code, out, error = cli("lint", HOSTILE.replace("/", "_") + "\nsecond")
    assert code == 2
    assert len(error.splitlines()) == 1
    assert not any(ord(c) < 32 and c != "\n" for c in out + error)


def test_a_table_shows_no_raw_code_and_takes_no_markup(capsys) -> None:
    from rich.table import Table

    table = Table("name")
    table.add_row(f"[red]{HOSTILE}[/red]")
    console(width=200).print(table)
    shown = capsys.readouterr().out
    assert "\\x1b]0;owned\\x07" in shown
    assert "[red]" in shown
    assert "\x1b" not in shown


def test_limits_are_lifted_by_their_flag(monkeypatch) -> None:
    monkeypatch.setattr(limits, "_lifted", False)
    with pytest.raises(QuantbenchError, match=r"over the bound of 10; .*--no-limits"):
        limits.check("a thing", 11, 10)
    limits.lift()
    limits.check("a thing", 11, 10)


def test_device_and_pipe_are_no_input(cli, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        for command in (("inspect",), ("cache", "show")):
            code, _, error = cli(*command, path)
            assert code == 2
            assert "no regular file" in error or "can be read only once" in error


def test_every_command_prints_through_the_terminal() -> None:
    """typer.echo, print and a Console of one's own would let a name's escape codes through."""
    import ast

    import quantbench

    found = []
    for file in (Path(quantbench.__file__).parent / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo", "Console"):
                found.append(f"{file.name}:{node.lineno}")
    assert not found


def test_a_pipe_gets_the_layers_of_a_prediction_between_tabs(cli, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(small()[0])
    code, printed, _ = cli("predict", tmp_path / "m.onnx")
    assert code == 0
    assert all(row.count("\t") == len(COLUMNS) - 1 for row in printed.splitlines()[:2])
