"""`quantbench inspect`: read what a build or an engine left behind."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect")(inspect)


def inspect(
    files: list[Path] = typer.Argument(
        ..., help="Logs, layer, profile or timing JSON, Q/DQ ONNX, engines, run folders; of one engine or of two."
    ),
    out: Path = typer.Option(None, "--out", "-o", help="Folder for inspect.json and inspect.html."),
    build: int = typer.Option(None, "--build", min=1, help="Which build of a log that holds several (1 is the first)."),
    alone: bool = typer.Option(False, "--alone", help="Read only the files named, not those beside them."),
    json_output: bool = typer.Option(False, "--json", help="Print the result as JSON and write nothing."),
    all_layers: bool = typer.Option(
        False, "--all", help="Print every layer with its kernel, and every entry of the verdicts."
    ),
) -> None:
    """Show what a compiler made of a model: fusions, precisions, kernels, times, and what to do about them.

    Two engines are set side by side.
    """
    import json

    from quantbench import atomic
    from quantbench.cli.inspect_engine import read_engine
    from quantbench.cli.inspect_print import print_comparison, print_inspection
    from quantbench.errors import QuantbenchError
    from quantbench.inspection.compare import compare
    from quantbench.inspection.export import to_json
    from quantbench.inspection.gather import gather
    from quantbench.inspection.page.render import comparison_page, page

    found = gather(files, siblings=not alone, build=build, look=read_engine)
    if len(found) > 2:
        names = ", ".join(inspection.title for inspection in found)
        raise QuantbenchError(f"these files belong to {len(found)} engines ({names}); name files of one or of two")
    if len(found) == 2:
        comparison = compare(found[0], found[1])
        data = comparison.to_json() | {"engines": [to_json(inspection) for inspection in found]}
        if json_output:
            typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
            return
        print_comparison(comparison)
        text = comparison_page(comparison)
        folder = out or Path(f"inspect-{found[0].title}-{found[1].title}"[:120])
        for inspection in found:
            atomic.write_text(folder / f"{inspection.title}.html", page(inspection))
    else:
        data = to_json(found[0])
        if json_output:
            typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
            return
        print_inspection(found[0], everything=all_layers)
        text = page(found[0])
        run = files[0] if len(files) == 1 and files[0].is_dir() else None
        folder = out or run or Path(f"inspect-{found[0].title}")
    atomic.write_json(folder / "inspect.json", data)
    atomic.write_text(folder / "inspect.html", text)
    typer.echo(f"\nwrote {folder / 'inspect.json'} and {folder / 'inspect.html'}")
