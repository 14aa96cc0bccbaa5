"""`quantbench tactics`: the kernels that a build timed."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from quantbench.cli.options import Json
from quantbench.json_types import JsonObject
from quantbench.terminal import echo

if TYPE_CHECKING:
    from quantbench.inspection.logs.tactic_table import TacticGroup, TacticTable

_PRECISIONS = ("FP32", "FP16", "BF16", "INT8", "FP8")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tactics")(tactics)


def tactics(
    log: Path = typer.Argument(..., help="Verbose log of a build, also .gz or .xz."),
    layer: str = typer.Option(
        "",
        "--layer",
        metavar="PATTERN",
        help="Every kernel of these layers (or of the layer that holds this node), * and ? allowed.",
    ),
    precision: str = typer.Option("", "--precision", metavar="NAME", help="With --layer: only fp32, fp16, int8 …"),
    as_json: Json = False,
) -> None:
    """List for each layer the kernels that were timed: the fastest of each precision, and the one chosen.

    build --forbid-tactic, --choose and --replay take what this prints.
    """
    import json

    from quantbench.errors import QuantbenchError
    from quantbench.inspection.logs.tactic_table import read_tactics

    table = read_tactics(log)
    groups = [g for g in table.groups if not g.reformat and g.layer and _named(g.layer, layer)]
    if precision:
        groups = [g for g in groups if g.precision == precision.upper()]
    if not groups:
        if layer or precision:
            raise QuantbenchError(f"no layer of {log} has kernels that fit; quantbench tactics {log} lists its layers")
        raise QuantbenchError(f"{log} holds no timings of kernels; give the verbose log of a build that timed them")
    if as_json:
        echo(json.dumps(_data(table, groups), indent=2, ensure_ascii=False))
        return
    edges = sum(len(g.timings) for g in table.groups if g.reformat)
    layers = {g.layer for g in table.groups if not g.reformat and g.layer}
    echo(
        f"{table.timed} kernels timed: {table.timed - edges} for {len(layers)} layers, {edges} for reformats between "
        f"them"
    )
    _kernels(groups) if layer or precision else _overview(groups, table)


def _named(layer: str, pattern: str) -> bool:
    """Whether the layer, or one of the nodes fused in it (`weights + x_QuantizeLinear + conv1`), has such a name."""
    return not pattern or any(fnmatchcase(name, pattern) for name in (layer, *layer.split(" + ")))


def _overview(groups: Sequence["TacticGroup"], table: "TacticTable") -> None:
    from quantbench.cli.inspect_table import Column, make_console, print_table
    from quantbench.inspection.logs.tactic_table import replay_table

    engine = replay_table(table)
    by_layer: dict[str, list[TacticGroup]] = {}
    for group in groups:
        by_layer.setdefault(group.layer, []).append(group)
    names = list(by_layer)
    fastest = {name: _fastest(found) for name, found in by_layer.items()}
    used = [_in_engine(by_layer[name], engine.get(name, frozenset())) for name in names]
    columns = [
        Column("kernels", tuple(str(sum(len(g.timings) for g in by_layer[n])) for n in names), True),
        *(
            Column(f"{kind} ms", tuple(f"{fastest[n][kind]:.4f}" if kind in fastest[n] else "" for n in names), True)
            for kind in _PRECISIONS
        ),
        Column("in the engine", tuple(used), drop=1),
        Column("layer", tuple(names)),
    ]
    print_table(make_console(), columns)


def _kernels(groups: Sequence["TacticGroup"]) -> None:
    from rich.markup import escape

    from quantbench.cli.inspect_table import Column, make_console, print_table

    console = make_console()
    for group in groups:
        console.print(f"\n[bold]{escape(group.layer)}[/bold]  {escape(f'{group.inputs} -> {group.outputs}')}")
        timings = sorted(group.timings, key=lambda t: (t.time_ms is None, t.time_ms or 0.0))
        best = group.best
        print_table(
            console,
            [
                Column("ms", tuple("" if t.time_ms is None else f"{t.time_ms:.6g}" for t in timings), True),
                Column("", tuple("chosen" if t is best and group.chosen[1] else "" for t in timings)),
                Column("tactic", tuple(t.tactic for t in timings)),
                Column("runner", tuple(t.runner for t in timings), drop=1),
                Column("kernel", tuple(t.kernel or ("could not run" if t.time_ms is None else "") for t in timings)),
            ],
        )


def _fastest(groups: Sequence["TacticGroup"]) -> dict[str, float]:
    found: dict[str, float] = {}
    for group in groups:
        times = [t.time_ms for t in group.timings if t.time_ms is not None]
        if times:
            found[group.precision] = min(min(times), found.get(group.precision, float("inf")))
    return found


def _in_engine(groups: Sequence["TacticGroup"], tactics: frozenset[int]) -> str:
    """Precision and kernel that the engine has, "" where the log does not tell."""
    for group in groups:
        for timed in group.timings:
            if timed.number in tactics and timed.time_ms is not None:
                return f"{group.precision} {timed.kernel or timed.tactic}"
    return ""


def _data(table: "TacticTable", groups: Sequence["TacticGroup"]) -> JsonObject:
    from quantbench.inspection.logs.tactic_table import replay_table

    engine = replay_table(table)
    return {
        "timed": table.timed,
        "version": table.version,
        "groups": [
            {
                "layer": g.layer, "inputs": g.inputs, "outputs": g.outputs, "precision": g.precision, "line": g.line,
                "chosen": {"runner": g.chosen[0], "tactic": g.chosen[1]},
                "kernels": [
                    {"runner": t.runner, "tactic": t.tactic, "kernel": t.kernel, "time_ms": t.time_ms, "line": t.line}
                    for t in g.timings
                ],
            }
            for g in groups
        ],
        "engine": {name: sorted(f"0x{t:016x}" for t in found) for name, found in engine.items()},
    }  # fmt: skip
