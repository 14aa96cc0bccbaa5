"""What `inspect` prints: a summary, the verdicts, the costly layers; or two engines side by side."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape

from quantbench.cli.inspect_table import Column, make_console, print_table, print_text
from quantbench.inspection.circumstances import one_line
from quantbench.inspection.compare import PAIRED_BY, Comparison
from quantbench.inspection.fate import STATUS
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import understood_share
from quantbench.inspection.passes.entry import PHASES
from quantbench.inspection.story import stage_changes
from quantbench.inspection.table import LayerRow, rows
from quantbench.inspection.verdicts.judge import judge
from quantbench.inspection.verdicts.verdict import Verdict, count

_COLOURS = {"problem": "red", "cost": "yellow", "note": "green"}
_ITEMS = 4
_UNKNOWN = 3
_TOP = 20


def print_inspection(inspection: Inspection, everything: bool = False) -> None:
    """Print one inspection to stdout; `everything` prints all layers with their kernels and all entries."""
    console = make_console()
    console.print(f"[bold]{escape(inspection.title)}[/bold]  {escape(_summary(inspection))}")
    for source in inspection.sources:
        print_text(console, f"{source.path.name}: {source.text}", 2, style="dim")
    if place := one_line(inspection):
        print_text(console, place, 2, style="dim")
    for note in inspection.notes:
        print_text(console, note, 2, style="dim")
    _log_line(console, inspection)
    _story(console, inspection)
    _fates(console, inspection)
    table = rows(inspection)
    if table:
        console.print()
        print_table(console, _layers(table if everything else _costly(table), everything))
        if not everything and len(table) > _TOP:
            print_text(console, f"{_TOP} of {len(table)} layers; --all prints every one", 2, style="dim")
    for verdict in judge(inspection):
        _verdict(console, verdict, everything)


def _summary(inspection: Inspection) -> str:
    parts = [inspection.compiler] if inspection.compiler else []
    if inspection.layers:
        counts = ", ".join(f"{n} {dtype}" for dtype, n in inspection.precisions.most_common() if dtype != "?")
        parts.append(count(len(inspection.layers), "layer") + (f" ({counts})" if counts else ""))
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
    lines, understood = understood_share(log)
    if lines:
        print_text(console, f"{count(lines, 'log line')}, {100 * understood:.2f} % understood", 2, style="dim")
    for form in log.unknown[:_UNKNOWN]:
        print_text(console, f"{form.count} times, first in line {form.line}: {form.message[:160]}", 4, style="dim")
    if len(log.unknown) > _UNKNOWN:
        print_text(console, f"--unknown lists all {len(log.unknown)} forms", 4, style="dim")


def print_unknown(inspection: Inspection) -> None:
    """Print the forms of lines that were not understood to stdout, the commonest first."""
    console = make_console()
    log = inspection.log
    if log is None:
        return
    lines, understood = understood_share(log)
    console.print(
        f"[bold]{escape(inspection.title)}[/bold]  {count(lines, 'log line')}, {100 * understood:.2f} % understood"
    )
    print_table(
        console,
        [
            Column("lines", tuple(str(f.count) for f in log.unknown), True),
            Column("first", tuple(str(f.line) for f in log.unknown), True),
            Column("as the first of them reads", tuple(f.message.strip()[:300] for f in log.unknown)),
        ],
    )


def _story(console: Console, inspection: Inspection) -> None:
    story = inspection.story
    if story is None:
        return
    changes = stage_changes(story.stages)
    if changes:
        path = [f"{changes[0][2]} layers"] + [f"{n} after {stage}" for _, stage, n, change in changes[1:] if change]
        if len(path) == 1:
            path[0] += " before and after optimizing"
        kernels = len(inspection.layers)
        if kernels > changes[-1][2]:
            path.append(f"{kernels} kernels in the engine")
        console.print()
        print_text(console, " → ".join(path))
    for number in (*PHASES, 0):
        acted = {s.name for s in story.of_phase(number) if s.kind not in ("pass-run", "remove")}
        counts: dict[str, int] = {}
        for step in story.of_phase(number):
            if step.kind != "remove" and (step.kind != "pass-run" or step.name not in acted):
                counts[step.name] = counts.get(step.name, 0) + 1
        if counts:
            title = f"phase {number}" if number else "other passes"
            print_text(console, f"{title}: " + ", ".join(f"{n} {name}" for name, n in counts.items()), 2)
    if story.unknown_passes:
        print_text(console, f"passes that quantbench does not know: {', '.join(story.unknown_passes)}", 2, style="dim")


def _fates(console: Console, inspection: Inspection) -> None:
    statuses = [f.status for f in inspection.fates]
    if statuses:
        build = inspection.build
        total = inspection.model is not None or (build is not None and bool(build.nodes or build.passes))
        console.print(f"\n{len(statuses)} Q and DQ{'' if total else ' that layers name (the network may hold more)'}:")
        for status, text in STATUS.items():
            if status in statuses:
                console.print(f"  {statuses.count(status):5d} {text}")


def _costly(table: Iterable[LayerRow]) -> list[LayerRow]:
    listed = list(table)
    if any(r.time_ms is not None for r in listed):
        listed.sort(key=lambda r: -(r.time_ms or 0.0))
    return listed[:_TOP]


def _layers(table: Sequence[LayerRow], kernels: bool) -> list[Column]:
    def column(header: str, cells: Iterable[str], right: bool = False, drop: int = 0) -> Column:
        return Column(header, tuple("" if cell == "?" else cell for cell in cells), right, drop)

    def form(row: LayerRow) -> str:
        same = row.format_in == row.format_out
        return row.format_in if same else f"{row.format_in}→{row.format_out}".strip("→")

    found = [
        column("#", (str(r.index) for r in table), True),
        column("ms", ("" if r.time_ms is None else f"{r.time_ms:.4f}" for r in table), True),
        column("share", ("" if r.share is None else f"{100 * r.share:.1f} %" for r in table), True, 3),
        column("type", (r.layer.type for r in table), drop=2),
        column("in", (r.dtype_in for r in table)),
        column("out", (r.dtype_out for r in table)),
        column("weights", (r.dtype_weights for r in table), drop=4),
        column("format", (form(r) for r in table), drop=5),
        column("output", ("" if r.dims_out == (-1,) else "×".join(map(str, r.dims_out)) for r in table), drop=6),
        column("MiB", (f"{r.nbytes / 2**20:.2f}" if r.nbytes else "" for r in table), True, 7),
    ]
    if kernels:
        found.append(column("kernel", (r.kernel if r.kernel.strip("0x") else "" for r in table), drop=9))
        margins = (f"+{100 * r.margin:.1f} %" if r.margin is not None else "" for r in table)
        found.append(column("next kernel", margins, True, 8))
    return [*found, column("ONNX nodes", (r.label for r in table))]


def _verdict(console: Console, verdict: Verdict, everything: bool) -> None:
    colour = _COLOURS[verdict.severity]
    time = f" ({verdict.time_ms:.4f} ms)" if verdict.time_ms is not None else ""
    console.print(f"\n[{colour}]{verdict.severity}[/{colour}] [bold]{escape(verdict.title)}[/bold]{time}")
    print_text(console, verdict.why, 2)
    shown = verdict.items if everything else verdict.items[:_ITEMS]
    for item in shown:
        print_text(console, f"{item.name}: {item.detail}", 2, "- ")
    if len(verdict.items) > len(shown):
        print_text(console, f"and {len(verdict.items) - len(shown)} more, in the page or with --all", 2, "- ", "dim")
    if verdict.advice:
        print_text(console, verdict.advice, 2, "→ ", "italic")


def print_comparison(comparison: Comparison) -> None:
    """Print two engines side by side to stdout."""
    console = make_console()
    first, second = comparison.first, comparison.second
    console.print(f"[bold]{escape(first.title)}[/bold] against [bold]{escape(second.title)}[/bold]")
    print_text(console, f"paired by {PAIRED_BY[comparison.paired_by]}", 2, style="dim")
    for reason in comparison.reasons:
        print_text(console, reason, 2, "- ")
    shares = comparison.shares
    console.print()
    print_table(
        console,
        [
            Column("layers", tuple(f"{s.first_count} → {s.second_count}" for s in shares), True),
            Column("ms", tuple(_both(s.first_ms, s.second_ms) for s in shares), True, 1),
            Column("difference", tuple(_signed(s.delta_ms) for s in shares), True),
            Column("work", tuple(s.name for s in shares)),
        ],
    )
    changed = [row for row in comparison.rows if row.changes or row.delta_ms]
    console.print()
    print_table(
        console,
        [
            Column("difference", tuple(_signed(row.delta_ms) for row in changed), True),
            Column("ONNX nodes and what changed", tuple(_change(row.label, row.changes) for row in changed)),
        ],
    )


def _change(name: str, changes: Sequence[str]) -> str:
    return f"{name}: {'; '.join(changes)}" if changes else name


def _both(first: float | None, second: float | None) -> str:
    return "" if first is None or second is None else f"{first:.4f} → {second:.4f}"


def _signed(delta: float | None) -> str:
    return "" if delta is None else f"{delta:+.4f}"
