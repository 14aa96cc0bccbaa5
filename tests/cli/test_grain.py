"""The grain of the code: what a function is asked for is a value once it is more than a few things."""

import ast
from collections.abc import Iterator
from pathlib import Path

import quantbench
from tests.sources import nodes

PACKAGE = Path(quantbench.__file__).parent
MOST = 7
# Signatures that are not ours to choose: options of commands, keywords of the public function, torch's own.
GIVEN = {("api/quantized.py", "quantize"), ("qat/attention.py", "forward")}


def _functions(file: Path) -> Iterator[tuple[str, int]]:
    """Name and number of parameters, but for self and cls."""
    for node in nodes(file):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            yield node.name, len([name for name in names if name not in ("self", "cls")])


def test_no_parameter_list_is_over_seven() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if file.relative_to(PACKAGE).parts[0] != "cli"]
    assert len(files) > 300
    long = {(file.relative_to(PACKAGE).as_posix(), name) for file in files for name, count in _functions(file)
            if count > MOST}  # fmt: skip
    assert long == GIVEN


def test_helpers_of_commands_have_no_long_lists_either() -> None:
    """Only what Typer reads may be long: a function that a command is registered with."""
    for file in (PACKAGE / "cli").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        for name, count in _functions(file):
            registered = f"({name})" in text or f"@app.command()\ndef {name}(" in text or "@app.command(" in text
            assert count <= MOST or registered, (file.name, name)
