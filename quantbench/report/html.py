"""Blocks as one HTML page: no script, no network, readable on paper and in the dark."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from quantbench.report.blocks import Bars, Cards, Section, Table, Text

_NUMBER = re.compile(r"^[-+]?[\d.,]+( ?(%|dB|ms|MB|kB|GB|B|x))?$|^-$|^none$|^\d+ of \d+$|^\d+ \(.*\)$")


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole report as HTML."""
    return _template().render(title=title, subtitle=subtitle, sections=sections)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    kinds = {"text": Text, "cards": Cards, "table": Table, "bars": Bars}
    for name, kind in kinds.items():
        environment.tests[name] = lambda value, kind=kind: isinstance(value, kind)
    environment.filters["number_columns"] = _number_columns
    environment.filters["share"] = _share
    return environment.get_template("template.html.j2")


def _number_columns(table: Table) -> set[int]:
    """Columns from the second on that hold figures alone."""
    columns = list(zip(*table.rows, strict=True))
    return {i for i, cells in enumerate(columns) if i and all(_NUMBER.match(cell) for cell in cells)}


def _share(value: float, bars: Bars) -> float:
    """Length of a bar in percent."""
    largest = bars.largest or max((bar[1] for bar in bars.bars), default=0.0)
    return round(100 * min(value / largest, 1.0), 1) if largest > 0 else 0.0
