"""Options are declared once, whichever commands have them."""

import ast
from collections import defaultdict
from pathlib import Path

import quantbench.cli


def _helps(path: Path) -> list[str]:
    """The help text of each declaration of an option or argument in a file."""
    return [
        ast.unparse(keyword.value)
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("typer.Option", "typer.Argument")
        for keyword in call.keywords
        if keyword.arg == "help" and isinstance(keyword.value, ast.Constant)
    ]  # fmt: skip


def test_no_two_commands_declare_an_option_in_the_same_words() -> None:
    found = defaultdict(list)
    for path in sorted(Path(quantbench.cli.__path__[0]).glob("*.py")):
        for text in _helps(path):
            found[text].append(path.name)
    assert len(found) > 150
    assert {text: files for text, files in found.items() if len(files) > 1} == {}
