"""Tables and paragraphs that fit the terminal, and whole lines where stdout is none."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quantbench.terminal import console

# A column of names narrower than this is unreadable: other columns go first.
_NAMES = 36


@dataclass(frozen=True, slots=True)
class Column:
    """A header and its cells. `drop` orders the columns that a narrow terminal loses: the highest first, 0 never."""

    header: str
    cells: tuple[str, ...]
    right: bool = False
    drop: int = 0

    @property
    def width(self) -> int:
        """Characters of the widest cell."""
        return max(len(self.header), *(len(cell) for cell in self.cells), 0)


def make_console() -> Console:
    """Lines are not wrapped where stdout is no terminal, so that grep and diff see whole ones."""
    made = console(markup=True)
    return made if made.is_terminal else console(markup=True, width=10_000, soft_wrap=True)


def print_table(console: Console, columns: Sequence[Column]) -> None:
    """Print `columns` side by side; columns of empty cells are left out, the last one holds the names and may wrap."""
    kept = [column for column in columns if any(column.cells)]
    if not kept:
        return
    if not console.is_terminal:
        for row in _rows(kept):
            console.print(escape(row), soft_wrap=True)
        return
    while sum(c.width + 2 for c in kept[:-1]) + min(_NAMES, kept[-1].width) > console.width:
        widest = max(kept[:-1], key=lambda c: c.drop, default=None)
        if widest is None or not widest.drop:
            break
        kept.remove(widest)
    view = Table(box=None, pad_edge=False, header_style="dim")
    for column in kept[:-1]:
        view.add_column(column.header, justify="right" if column.right else "left", no_wrap=True)
    view.add_column(kept[-1].header, overflow="fold")
    for cells in zip(*(column.cells for column in kept), strict=True):
        view.add_row(*map(escape, cells))
    console.print(view)


def _rows(columns: Sequence[Column]) -> list[str]:
    widths = [column.width for column in columns]
    table = [[column.header for column in columns], *map(list, zip(*(c.cells for c in columns), strict=True))]
    return [
        "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in table
    ]


def print_text(console: Console, text: str, indent: int = 0, bullet: str = "", style: str = "") -> None:
    """Print `text` as it is; a terminal gets it wrapped, further lines under the first one's words."""
    start = " " * indent + bullet
    if console.is_terminal:
        lines = textwrap.wrap(
            text, max(20, console.width), initial_indent=start, subsequent_indent=" " * len(start),
            break_on_hyphens=False,
        )  # fmt: skip
    else:
        lines = [start + text]
    for line in lines or [start]:
        console.print(escape(line), style=style or None)
