"""Sentences that name a way out: the command that they name exists and has the options that they name."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import quantbench
from quantbench.trtexec.flags import FLAGS
from tests.cli.ways_out import OPTION, commands, named_commands
from tests.sources import nodes

PACKAGE = Path(quantbench.__file__).parent
# What a sentence says of quantbench, in place of a command.
PROSE = frozenset({
    "wrote", "writes", "does", "refuses", "would", "was", "tells", "ships", "run", "ranges", "reads", "placed",
    "measures", "makes", "layers", "keeps", "itself", "edits", "did", "decided", "copies", "casts", "calls", "layer",
    "calibrates", "builds", "and", "cannot", "has", "joins", "training", "in", "with", "is",
    "plain", "--no-limits", "one", "ort-minmax",
})  # fmt: skip
# Options of others, by the word that must stand before them in the sentence.
OTHERS = {
    "nsys": {"--trace", "--export", "--format", "--report", "--output"}, "pip install": {"--index-url", "--no-deps"},
    "polygraphy": {"--fold-constants"}, "compute-sanitizer": {"--tool"},
    "container": {"--gpus"}, "ray start": {"--head"},
    "--gpu-architecture=sm_": {"--gpu-architecture"}, "--std=c++": {"--std"},
}  # fmt: skip


@cache
def sentences() -> tuple[tuple[str, str], ...]:
    """(place, text) of every string that is no docstring; what is put in is `{}`, what is joined is one."""
    return tuple(_sentences())


def _sentences() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        docs = {
            id(node.body[0].value)
            for node in nodes(path)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
        }
        inside = {id(v) for node in nodes(path) if isinstance(node, ast.JoinedStr) for v in ast.walk(node)} - {
            id(node) for node in nodes(path) if isinstance(node, ast.JoinedStr)
        }
        for node in nodes(path):
            if id(node) in docs or id(node) in inside:
                continue
            text = ""
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            if "quantbench " in text or OPTION.search(text):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text


def pages() -> Iterator[tuple[str, str]]:
    """(place, line) of README and the docs."""
    for path in (PACKAGE.parent / "README.md", *sorted((PACKAGE.parent / "docs").glob("*.md"))):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield f"{path.name}:{number}", line


def test_every_command_that_a_sentence_names_exists_and_has_its_options() -> None:
    wrong, seen = [], 0
    for place, text in (*sentences(), *pages()):
        for named in named_commands(text):
            if not named.command:
                first = re.match(r"quantbench ([\w.-]*)", named.text)
                if first is not None and first[1] not in PROSE and not first[1].endswith(".json"):
                    wrong.append(f"{place}: no such command: {named.text}")
                continue
            seen += 1
            lacking = [option for option in named.options if option not in commands()[named.command]]
            if lacking:
                wrong.append(f"{place}: {named.command} has no {', '.join(lacking)}: {text}")
    assert not wrong, "\n".join(wrong)
    assert seen > 300


def test_every_option_that_a_sentence_names_is_one_of_a_command_or_of_the_tool_that_is_named() -> None:
    every = frozenset().union(*commands().values())
    trtexec = {f"--{name}" for name in FLAGS}
    wrong = [
        f"{place}: {option}: {text}"
        for place, text in sentences()
        for option in OPTION.findall(text)
        if option not in every | trtexec
        and not any(tool in text and option in options for tool, options in OTHERS.items())
    ]
    assert not wrong, "\n".join(wrong)
