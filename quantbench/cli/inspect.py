"""`quantbench inspect`: read what a build or an engine left behind."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from quantbench.json_types import JsonObject
from quantbench.terminal import echo

if TYPE_CHECKING:
    from quantbench.inspection.inspection import Inspection


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect")(inspect)


def inspect(
    files: list[Path] = typer.Argument(
        ..., help="Logs, layer, profile or timing JSON, Q/DQ ONNX, engines, run folders; of one engine or of two."
    ),
    out: Path = typer.Option(None, "--out", "-o", help="Write inspect.json and the page inspect.html to this folder."),
    build: int = typer.Option(None, "--build", min=1, help="Which build of a log that holds several (1 is the first)."),
    alone: bool = typer.Option(False, "--alone", help="Read only the files named, not those beside them."),
    json_output: bool = typer.Option(False, "--json", help="Print the result as JSON."),
    all_layers: bool = typer.Option(
        False, "--all", help="Print every layer with its kernel, and every entry of the verdicts."
    ),
    plugin: list[Path] = typer.Option(None, metavar="LIB.so", help="Library of plugins that an engine needs."),
    unknown: bool = typer.Option(
        False, "--unknown", help="Print only the lines of a log that are not understood, by form, the commonest first."
    ),
) -> None:
    """Show what a compiler made of a model: fusions, precisions, kernels, times, and what to do about them.

    Two engines are set side by side. Nothing is written but to --out.
    """
    import json
    from functools import partial

    from quantbench.cli.inspect_engine import read_engine
    from quantbench.cli.inspect_print import print_comparison, print_inspection
    from quantbench.errors import QuantbenchError
    from quantbench.inspection.compare import compare
    from quantbench.inspection.export import to_json
    from quantbench.inspection.gather import gather
    from quantbench.inspection.page.render import comparison_page, page

    found = gather(files, siblings=not alone, build=build, look=partial(read_engine, plugins=plugin or ()))
    if unknown:
        _unknown(found, json_output)
        return
    if len(found) > 2:
        names = ", ".join(inspection.title for inspection in found)
        raise QuantbenchError(f"these files belong to {len(found)} engines ({names}); name files of one or of two")
    pages: dict[str, str] = {}
    data: JsonObject
    if len(found) == 2:
        comparison = compare(found[0], found[1])
        data = comparison.to_json() | {"engines": [to_json(inspection) for inspection in found]}
        if not json_output:
            print_comparison(comparison)
        if out is not None:
            pages = {"inspect": comparison_page(comparison)} | {i.title: page(i) for i in found}
    else:
        data = to_json(found[0])
        if not json_output:
            print_inspection(found[0], everything=all_layers)
        if out is not None:
            pages = {"inspect": page(found[0])}
    if json_output:
        echo(json.dumps(data, indent=2, ensure_ascii=False))
    if out is not None:
        _write(out, data, pages, quiet=json_output)


def _write(folder: Path, data: JsonObject, pages: dict[str, str], quiet: bool) -> None:
    from quantbench import atomic

    atomic.write_json(folder / "inspect.json", data)
    for name, text in pages.items():
        atomic.write_text(folder / f"{name}.html", text)
    if not quiet:
        echo(f"\nwrote {folder / 'inspect.json'} and {folder / 'inspect.html'}")


def _unknown(found: list["Inspection"], json_output: bool) -> None:
    import json

    from quantbench.cli.inspect_print import print_unknown
    from quantbench.errors import QuantbenchError

    logs = [inspection for inspection in found if inspection.log is not None]
    if not logs:
        raise QuantbenchError("--unknown is about logs, and no file named here is one; name the log of a build")
    if json_output:
        rows = [
            {"log": i.title, "count": f.count, "line": f.line, "text": f.message}
            for i in logs
            for f in (i.log.unknown if i.log is not None else ())
        ]
        echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for inspection in logs:
        print_unknown(inspection)
