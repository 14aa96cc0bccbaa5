"""Fill the page's template."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

import quantbench
from quantbench.inspection.circumstances import circumstances
from quantbench.inspection.compare import PAIRED_BY, Comparison
from quantbench.inspection.fate import STATUS, Fate
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import understood_share
from quantbench.inspection.passes.entry import PHASES
from quantbench.inspection.passes.registry import PASSES
from quantbench.inspection.story import Step, stage_changes
from quantbench.inspection.table import LayerRow, rows
from quantbench.inspection.verdicts.judge import judge

# Long names may break behind these, numbers may not.
_BREAK = re.compile(r"([/_+|]|\.(?=[A-Za-z]))")

# A page with every step of a giant log would be too heavy to open; inspect.json keeps them all.
_STEPS_SHOWN = 400


def page(inspection: Inspection) -> str:
    """The HTML page of one inspection."""
    table = rows(inspection)
    verdicts = judge(inspection)
    return _template("inspect.html.j2").render(
        title=inspection.title,
        inspection=inspection,
        rows=table,
        strip=_strip(table),
        verdicts=verdicts,
        fates=_fates(inspection.fates),
        statuses=STATUS,
        phases=_phases(inspection),
        stages=_stages(inspection),
        all_stages=inspection.story.stages if inspection.story is not None else (),
        story=inspection.story is not None,
        has={
            "weights": any(r.dtype_weights for r in table), "format": any(r.format_in for r in table),
            "time": any(r.time_ms is not None for r in table), "kernel": any(r.kernel.strip("0x") for r in table),
            "margin": any(r.margin is not None for r in table),
        },
        circumstances=circumstances(inspection),
        causes={i.name: i.detail for v in verdicts if v.rule == "leftover_qdq" for i in v.items},
        passes=PASSES,
        unknown=inspection.log.unknown if inspection.log is not None else [],
        understood=_understood(inspection),
        version=quantbench.__version__,
    )  # fmt: skip


def comparison_page(comparison: Comparison) -> str:
    """The HTML page of two engines side by side."""
    deltas = [abs(row.delta_ms) for row in comparison.rows if row.delta_ms is not None]
    return _template("compare.html.j2").render(
        title=f"{comparison.first.title} against {comparison.second.title}",
        comparison=comparison,
        paired_by=PAIRED_BY[comparison.paired_by],
        largest=max(deltas, default=0.0),
        version=quantbench.__version__,
    )


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["ms"] = lambda value: "" if value is None else f"{value:.4f}" if value < 10 else f"{value:.2f}"
    environment.filters["signed"] = lambda value: "" if value is None else f"{value:+.4f}"
    environment.filters["percent"] = lambda value: "" if value is None else f"{100 * value:.1f} %"
    environment.filters["mib"] = lambda value: f"{value / 1048576:.2f}" if value else ""
    environment.filters["dims"] = lambda dims: "×".join(map(str, dims))
    environment.filters["tone"] = tone
    environment.filters["breaks"] = lambda text: _BREAK.sub("\\1\u200b", str(text))
    return environment.get_template(name)


def tone(dtype: str) -> str:
    """CSS class of a precision."""
    first = dtype.split("+")[0]
    return {"INT8": "q", "UINT8": "q", "FP8": "q", "INT4": "q", "FP4": "q", "FP16": "h", "BF16": "h", "FP32": "f"}.get(
        first, "o"
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A layer as a piece of the bar: width in percent, tone of its dtype, what it says, and its row."""

    width: float
    tone: str
    title: str
    index: int


@dataclass(frozen=True, slots=True)
class _Phase:
    """Steps of a phase that are shown, how many more there are, and how often each pass did something."""

    title: str
    steps: Sequence[Step]
    more: int
    counts: Mapping[str, int]


def _strip(table: Sequence[LayerRow]) -> list[_Piece]:
    """Layers as pieces of one bar: as wide as their time, or all of one width without a profile."""
    timed = [r for r in table if r.share is not None and r.share > 0]
    chosen = timed or [r for r in table if r.category not in ("constant", "sync", "noop")]
    return [
        _Piece(
            round(100 * (r.share if timed and r.share is not None else 1 / len(chosen)), 3),
            "c" if r.category in ("reformat", "noop") else tone(r.dtype_in),
            f"{r.layer.name} · {r.dtype_in} → {r.dtype_out}" + (f" · {r.time_ms:.4f} ms" if r.time_ms else ""),
            r.index,
        )
        for r in chosen
    ]


def _fates(fates: Sequence[Fate]) -> list[tuple[str, list[Fate]]]:
    """Fates by status, what the user asks first at the top."""
    order = ("left over", "not traced", "moved", "kernel", "removed", "split", "merged", "fused", "folded")
    return [(status, found) for status in order if (found := [f for f in fates if f.status == status])]


def _phases(inspection: Inspection) -> list[_Phase]:
    if inspection.story is None:
        return []
    found: list[_Phase] = []
    for number in (*PHASES, 0):
        steps = [s for s in inspection.story.of_phase(number) if s.kind != "pass-run" or _lonely(s.name)]
        if steps:
            title = f"{number} · {PHASES[number][0]}" if number else "Outside the Q/DQ phases"
            counts: dict[str, int] = {}
            for step in steps:
                if step.kind != "remove":
                    counts[step.name] = counts.get(step.name, 0) + 1
            found.append(_Phase(title, steps[:_STEPS_SHOWN], max(0, len(steps) - _STEPS_SHOWN), counts))
    return found


def _stages(inspection: Inspection) -> list[tuple[int, str, int, int]]:
    """The first stage, the last, and those that changed the number of layers."""
    found = stage_changes(inspection.story.stages) if inspection.story is not None else []
    last = len(found) - 1
    return [row for index, row in enumerate(found) if index in (0, last) or row[3]]


def _lonely(name: str) -> bool:
    """Passes of which the log prints nothing but the Running line."""
    return name in ("SplitQAcrossPrecedingFanIn", "ConstQDQInitializersFusion", "QConvScaleFusion")


def _understood(inspection: Inspection) -> float | None:
    """Share of log lines that were classified into a known kind."""
    if inspection.log is None:
        return None
    lines, share = understood_share(inspection.log)
    return share if lines else None
