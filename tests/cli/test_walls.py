"""The walls between rooms are those of docs/architecture.md, which is read here: imports go down its table."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import quantbench
from tests.sources import nodes

PACKAGE = Path(quantbench.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
# `quantbench` itself and `python -m quantbench` lead to the public API and to the command.
FRONT = {"__init__", "__main__"}


def table(heading: str) -> list[list[str]]:
    """Cells of the table whose first column is headed so."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} "))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def names(cell: str) -> list[str]:
    return [name.removesuffix("/").removesuffix(".py") for name in re.findall(r"`([^`]+)`", cell)]


def order() -> dict[str, int]:
    """Room to its place from the top."""
    rooms = [name for row in table("room") for name in names(row[0])]
    assert len(set(rooms)) == len(rooms)
    return {name: place for place, name in enumerate(rooms)}


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Absolute names of modules that `file` imports anywhere, lazily too, with the line; not under TYPE_CHECKING."""
    typed = {
        id(inner)
        for node in nodes(file)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in nodes(file):
        if id(node) in typed:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "quantbench":
            yield from ((f"quantbench.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno


def room_of(file: Path) -> str:
    first, *rest = file.relative_to(PACKAGE).parts
    return first if rest else first.removesuffix(".py")


def files() -> list[Path]:
    return [file for file in PACKAGE.rglob("*.py") if room_of(file) not in {*FRONT, "_shipped"}]


def test_every_room_stands_in_the_table_and_the_table_holds_no_other() -> None:
    rooms = {room_of(file) for file in files()}
    assert rooms == set(order())


def test_imports_go_down_the_table() -> None:
    place = order()
    climbs = []
    for file in files():
        room = room_of(file)
        for name, line in imports(file):
            parts = name.split(".")
            if parts[0] != "quantbench" or len(parts) == 1 or parts[1] not in place:
                continue
            if place[parts[1]] < place[room]:
                climbs.append(f"{file.relative_to(PACKAGE)}:{line} imports {name}, which stands above {room}")
    assert not climbs


def test_libraries_stay_in_their_rooms() -> None:
    allowed = {library: set(names(row[1])) for row in table("library") for library in names(row[0])}
    assert set(allowed) == {"tensorrt", "tensorrt_rtx", "torch", "onnx_graphsurgeon", "typer"}
    strays = [
        f"{file.relative_to(PACKAGE)}:{line} imports {name}"
        for file in files()
        for name, line in imports(file)
        if room_of(file) not in allowed.get(name.split(".")[0], {room_of(file)})
    ]
    assert not strays


def test_paths_that_the_page_names_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text))
    assert named
    roots = (PACKAGE, PACKAGE.parent)
    assert not [name for name in named if not any((root / name).exists() for root in roots)]
