"""`quantbench explain`: what an optimizer pass does."""

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    name: str = typer.Argument("", help="A pass as a log names it, e.g. QConvScaleFusion; none lists them all."),
    json_output: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Explain a TensorRT optimizer pass: what it does, what it means for INT8, before and after."""
    import json
    from dataclasses import asdict

    from quantbench.cli.inspect_table import make_console, print_text
    from quantbench.errors import QuantbenchError
    from quantbench.inspection.passes.entry import PHASES
    from quantbench.inspection.passes.registry import PASSES, lookup, similar

    if not name:
        if json_output:
            typer.echo(json.dumps([asdict(entry) for entry in PASSES.values()], indent=2))
            return
        console = make_console()
        for number in (*PHASES, 0):
            entries = [entry for entry in PASSES.values() if entry.phase == number]
            typer.echo(f"\nPhase {number}: {PHASES[number][0]}" if number else "\nOutside the Q/DQ phases")
            if not entries:
                typer.echo("  no log that quantbench was made from shows a pass of it")
            for entry in entries:
                print_text(console, entry.does, 2, f"{entry.name:28} ")
        return
    found = lookup(name)
    if found is None:
        near = similar(name)
        hint = f"did you mean {', '.join(near)}?" if near else "`quantbench explain` lists all passes"
        raise QuantbenchError(f"no pass {name} is known; {hint}")
    if json_output:
        typer.echo(json.dumps(asdict(found), indent=2))
        return
    console = make_console()
    phase = f"phase {found.phase}, {PHASES[found.phase][0]}" if found.phase else "outside the Q/DQ phases"
    typer.echo(f"{found.name} ({phase})\n")
    print_text(console, found.does)
    typer.echo()
    print_text(console, f"For INT8: {found.int8}")
    typer.echo()
    typer.echo("".join(f"    {line}\n" for line in found.drawing.split("\n")))
    typer.echo("--> float, ==> INT8")
