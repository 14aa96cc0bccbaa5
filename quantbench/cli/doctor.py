"""`quantbench doctor`: which backends this machine has, what each can do, how to get the missing ones."""

import typer

from quantbench.terminal import console, echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
    report: bool = typer.Option(
        False, "--report", help="Print what a bug report needs, as Markdown without paths of the home folder."
    ),
) -> None:
    """Show which backends this machine has, what each can do, and how to get the missing ones."""
    import json
    import platform
    import sys
    from dataclasses import asdict

    from quantbench import __version__
    from quantbench.engines.discover import discover

    found = discover()
    if report:
        from quantbench.cli.bug_report import bug_report

        echo(bug_report(found))
        return
    machine = {
        "quantbench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
    }
    if as_json:
        echo(json.dumps({**machine, "backends": [asdict(backend) for backend in found]}, indent=2))
        return
    echo(f"quantbench {__version__}, Python {machine['python']}, {machine['platform']}")
    if not sys.stdout.isatty():
        for backend in found:
            state = f"yes {backend.version}" if backend.available else "no"
            what = ", ".join(backend.can) if backend.can else "-"
            line = f"{backend.name}: {state}; can: {what}" + (f"; {backend.detail}" if backend.detail else "")
            echo(line if backend.available else f"{line}; get it: {backend.how_to_install}")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("backend", "here", "version", "can", "note"):
        table.add_column(column, overflow="fold")
    for backend in found:
        note = backend.detail if backend.available else f"{backend.detail}: {backend.how_to_install}"
        here = Text("yes", "green") if backend.available else Text("no", "red")
        table.add_row(backend.name, here, backend.version or "-", ", ".join(backend.can) or "-", note)
    console().print(table)
