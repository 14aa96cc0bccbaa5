"""A report as one HTML page: blocks, and where there is a decision its plots, table and network. No request leaves the
page; it is readable on paper, in the dark, on a phone, and without its script."""

import gzip
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from quantbench.report.blocks import Bars, Cards, Section, Table, Text
from quantbench.report.decision import Decision
from quantbench.report.words import size

_NUMBER = re.compile(r"^[-+]?[\d.,]+( ?(%|dB|ms|MB|kB|GB|B|x))?$|^-$|^none$|^\d+ of \d+$|^\d+ \(.*\)$")


_PAGE = Path(__file__).parent / "page"


def render(
    title: str, subtitle: str, sections: Sequence[Section], decision: Decision | None = None, *, lead: int = 1
) -> str:
    """The whole report as HTML. The plots and tables of `decision` stand behind the first `lead` sections."""
    return _template().render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        decision=decision,
        lead=lead,
        data=_script_json(decision) if decision else "",
        libraries=[Markup(text) for text in (_libraries() if decision else ())],
        script=Markup((_PAGE / "page.js").read_text(encoding="utf-8")) if decision else "",
        style=Markup((_PAGE / "page.css").read_text(encoding="utf-8")),
    )


def _script_json(decision: Decision) -> Markup:
    """JSON that no closing tag in a name can end."""
    text = json.dumps(decision.data.to_json(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


@cache
def _libraries() -> tuple[str, str]:
    """ECharts for the plots, dagre for the layout of the network (page/vendor/NOTICE.md)."""
    packed = (_PAGE / "vendor" / "echarts.min.js.gz").read_bytes()
    return gzip.decompress(packed).decode("utf-8"), (_PAGE / "vendor" / "dagre.min.js").read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    kinds = {"text": Text, "cards": Cards, "table": Table, "bars": Bars}
    for name, kind in kinds.items():
        environment.tests[name] = lambda value, kind=kind: isinstance(value, kind)
    environment.filters["number_columns"] = _number_columns
    environment.filters["share"] = _share
    environment.filters["bytes"] = size
    environment.filters["unbroken"] = _unbroken
    return environment.get_template("report.html.j2")


def _number_columns(table: Table) -> set[int]:
    """Columns from the second on that hold figures alone."""
    columns = list(zip(*table.rows, strict=True))
    return {i for i, cells in enumerate(columns) if i and all(_NUMBER.match(cell) for cell in cells)}


def _unbroken(command: str) -> Markup:
    """A command whose lines break between its words: a browser would break them behind hyphens, as in `--data`."""
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in command.split(" "))


def _share(value: float, bars: Bars) -> float:
    """Length of a bar in percent."""
    largest = bars.largest or max((bar[1] for bar in bars.bars), default=0.0)
    return round(100 * min(value / largest, 1.0), 1) if largest > 0 else 0.0
