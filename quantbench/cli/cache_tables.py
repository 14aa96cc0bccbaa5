"""Tables of the `cache` commands: rich on a terminal, tab-separated lines elsewhere."""

import sys
from collections.abc import Iterable, Sequence

from quantbench.terminal import console, echo


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], limit: int = 0) -> None:
    """Print `rows`; `limit` (0: none) cuts them, and says so."""
    rows = list(rows)
    shown = rows[:limit] if limit else rows
    if sys.stdout.isatty():
        from rich.table import Table

        drawn = Table(*columns, header_style="bold", box=None, pad_edge=False)
        for row in shown:
            drawn.add_row(*row)
        console().print(drawn)
    else:
        line("\t".join(columns))
        for row in shown:
            line("\t".join(row))
    if len(shown) < len(rows):
        line(f"… {len(rows) - len(shown)} more (--limit 0 shows all)")


def line(text: str = "") -> None:
    """Print one line; bytes of names that are no UTF-8 come out escaped."""
    echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def section(title: str, rows: Sequence[str], limit: int = 0) -> None:
    """Print a title with the number of rows and the rows indented; nothing where there are none."""
    if not rows:
        return
    line(f"{title} ({len(rows)}):")
    for row in rows[:limit] if limit else rows:
        line(f"  {row}")
    if limit and len(rows) > limit:
        line(f"  … {len(rows) - limit} more (--limit 0 shows all)")
