"""What `inspect` prints: a summary, the verdicts, the costly layers; or two engines side by side."""

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quantbench.inspection.compare import Comparison
from quantbench.inspection.fate import STATUS
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.kinds import NOT_LOG_LINES
from quantbench.inspection.passes.entry import PHASES
from quantbench.inspection.table import LayerRow, rows
from quantbench.inspection.verdicts.judge import judge
from quantbench.inspection.verdicts.verdict import Verdict, short

_COLOURS = {"problem": "red", "cost": "yellow", "note": "green"}
_ITEMS = 4
_TOP = 20


def _console() -> Console:
    """Lines are not wrapped where stdout is no terminal, so that grep and diff see whole ones."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200, soft_wrap=True)


def print_inspection(inspection: Inspection, all_layers: bool = False) -> None:
    """Print one inspection to stdout."""
    console = _console()
    console.print(f"[bold]{escape(inspection.title)}[/bold]  {escape(_summary(inspection))}")
    for source in inspection.sources:
        console.print(f"  {escape(source.path.name)}: {source.text}", style="dim")
    for note in inspection.notes:
        console.print(f"  {escape(note)}", style="dim")
    _log_line(console, inspection)
    _story(console, inspection)
    table = rows(inspection)
    if table:
        console.print()
        console.print(_layers(table if all_layers else _costly(table), inspection))
        if not all_layers and len(table) > _TOP:
            console.print(f"  {_TOP} of {len(table)} layers; --all prints every one", style="dim")
    for verdict in judge(inspection):
        _verdict(console, verdict)


def _summary(inspection: Inspection) -> str:
    parts = [f"TensorRT {inspection.version}"] if inspection.version else []
    if inspection.layers:
        counts = ", ".join(f"{n} {dtype}" for dtype, n in inspection.precisions.most_common() if dtype != "?")
        parts.append(f"{len(inspection.layers)} layers" + (f" ({counts})" if counts else ""))
    if inspection.total_ms is not None:
        parts.append(f"{inspection.total_ms:.4f} ms in layers")
    for name, statistics in inspection.timing.items():
        if name in ("latency", "compute"):
            parts.append(f"{name} median {statistics.median:.4f} ms, p99 {statistics.p99:.4f} ms")
    return ", ".join(parts)


def _log_line(console: Console, inspection: Inspection) -> None:
    log = inspection.log
    if log is None:
        return
    lines = sum(n for kind, n in log.kinds.items() if kind not in NOT_LOG_LINES)
    missed = log.kinds["unknown"]
    if lines:
        console.print(f"  {lines} log lines, {100 * (1 - missed / lines):.2f} % understood", style="dim")
    for event in log.unknown[:5]:
        console.print(f"    line {event.line}: {escape(event.message[:160])}", style="dim")


def _story(console: Console, inspection: Inspection) -> None:
    story = inspection.story
    if story is not None and story.stages:
        first, last = story.stages[0], story.stages[-1]
        console.print(f"\n{first[2]} layers became {last[2]} ({last[1]})")
    if story is not None:
        for number in (*PHASES, 0):
            steps = [s for s in story.of_phase(number) if s.kind != "remove"]
            counts: dict[str, int] = {}
            for step in steps:
                acted = step.kind != "pass-run"
                if acted or not any(s.name == step.name and s.kind not in ("pass-run", "remove") for s in steps):
                    counts[step.name] = counts.get(step.name, 0) + 1
            if counts:
                title = f"phase {number}" if number else "other passes"
                console.print(f"  {title}: " + ", ".join(f"{n} {escape(name)}" for name, n in counts.items()))
    statuses = [f.status for f in inspection.fates]
    if statuses:
        console.print(f"\n{len(statuses)} Q and DQ:")
        for status, text in STATUS.items():
            if status in statuses:
                console.print(f"  {statuses.count(status):5d} {text}")


def _costly(table: Iterable[LayerRow]) -> list[LayerRow]:
    listed = list(table)
    if any(r.time_ms is not None for r in listed):
        listed.sort(key=lambda r: -(r.time_ms or 0.0))
    return listed[:_TOP]


def _layers(table: Iterable[LayerRow], inspection: Inspection) -> Table:
    timed = inspection.total_ms is not None
    view = Table(box=None, pad_edge=False, header_style="dim")
    view.add_column("#", justify="right")
    if timed:
        view.add_column("ms", justify="right")
        view.add_column("share", justify="right")
    for name in ("type", "in", "out", "weights", "format"):
        view.add_column(name)
    whole = not sys.stdout.isatty()
    view.add_column("ONNX nodes", overflow="ignore" if whole else "fold", no_wrap=whole)
    for row in table:
        time = [f"{row.time_ms:.4f}" if row.time_ms is not None else "",
                f"{100 * row.share:.1f} %" if row.share is not None else ""]  # fmt: skip
        form = row.format_in if row.format_in == row.format_out else f"{row.format_in}→{row.format_out}".strip("→")
        view.add_row(
            str(row.index), *(time if timed else []), escape(row.layer.type), row.dtype_in, row.dtype_out,
            row.dtype_weights, form, escape(short(row.layer)),
        )  # fmt: skip
    return view


def _verdict(console: Console, verdict: Verdict) -> None:
    colour = _COLOURS[verdict.severity]
    time = f" ({verdict.time_ms:.4f} ms)" if verdict.time_ms is not None else ""
    console.print(f"\n[{colour}]{verdict.severity}[/{colour}] [bold]{escape(verdict.title)}[/bold]{time}")
    console.print(f"  {escape(verdict.why)}")
    for item in verdict.items[:_ITEMS]:
        console.print(f"  - {escape(item.name)}: {escape(item.detail)}")
    if len(verdict.items) > _ITEMS:
        console.print(f"  - and {len(verdict.items) - _ITEMS} more, in the page", style="dim")
    if verdict.advice:
        console.print(f"  {escape(verdict.advice)}", style="italic")


def print_comparison(comparison: Comparison) -> None:
    """Print two engines side by side to stdout."""
    console = _console()
    console.print(
        f"[bold]{escape(comparison.first.title)}[/bold] against [bold]{escape(comparison.second.title)}[/bold]"
    )
    for reason in comparison.reasons:
        console.print(f"  - {escape(reason)}")
    view = Table(box=None, pad_edge=False, header_style="dim")
    for name, justify in (("work", "left"), ("layers", "right"), ("ms", "right"), ("difference", "right")):
        view.add_column(name, justify="left" if justify == "left" else "right")
    for share in comparison.shares:
        times = (
            "" if share.first_ms is None or share.second_ms is None else f"{share.first_ms:.4f} → {share.second_ms:.4f}"
        )
        delta = "" if share.delta_ms is None else f"{share.delta_ms:+.4f}"
        view.add_row(share.name, f"{share.first_count} → {share.second_count}", times, delta)
    console.print()
    console.print(view)
    rows_view = Table(box=None, pad_edge=False, header_style="dim")
    rows_view.add_column("ms", justify="right")
    rows_view.add_column("ONNX nodes", overflow="fold")
    rows_view.add_column("what changed", overflow="fold")
    for row in comparison.rows:
        if row.changes or row.delta_ms:
            delta = "" if row.delta_ms is None else f"{row.delta_ms:+.4f}"
            rows_view.add_row(delta, escape(row.label), escape("; ".join(row.changes)))
    console.print()
    console.print(rows_view)
