"""`quantbench explain`: what an optimizer pass does."""

from typing import TYPE_CHECKING

import typer

from quantbench.terminal import echo

if TYPE_CHECKING:
    from quantbench.inspection.errors.entry import ErrorEntry


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    name: str = typer.Argument(
        "", help="A pass as a log names it, e.g. QConvScaleFusion, or the text of an error; none lists them all."
    ),
    json_output: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Explain a TensorRT optimizer pass (what it does, what it means for INT8) or an error (its meaning, what next)."""
    import json
    from dataclasses import asdict

    from quantbench.cli.inspect_table import make_console, print_text
    from quantbench.errors import QuantbenchError
    from quantbench.inspection.errors.registry import ERRORS, lookup_error, similar_errors
    from quantbench.inspection.passes.entry import PHASES
    from quantbench.inspection.passes.registry import PASSES, lookup, similar
    from quantbench.qdq.rulebook import rulebook

    if name in (rules := rulebook()):
        rule = rules[name]
        if json_output:
            echo(json.dumps(asdict(rule), indent=2))
            return
        echo(f"{rule.name} (placement rule of quantbench)\n\n{rule.does}\n")
        for number, text in enumerate(rule.numbered, start=1):
            echo(f"{number}. {text}")
        echo("\n" + "".join(f"    {line}\n" for line in rule.drawing.split("\n")))
        echo("--> float, ==> INT8; before on the left, after on the right")
        return
    if not name:
        if json_output:
            echo(json.dumps([asdict(entry) for entry in PASSES.values()], indent=2))
            return
        console = make_console()
        for number in (*PHASES, 0):
            entries = [entry for entry in PASSES.values() if entry.phase == number]
            echo(f"\nPhase {number}: {PHASES[number][0]}" if number else "\nOutside the Q/DQ phases")
            if not entries:
                echo("  no log that quantbench was made from shows a pass of it")
            for entry in entries:
                print_text(console, entry.does, 2, f"{entry.name:28} ")
        echo("\nErrors")
        for entry_of_error in ERRORS.values():
            print_text(console, entry_of_error.meaning, 2, f"{entry_of_error.name:31} ")
        return
    found = lookup(name)
    if found is None:
        if (wrong := lookup_error(name)) is not None:
            _error(wrong, json_output)
            return
        near = [*similar(name), *similar_errors(name)]
        hint = f"did you mean {', '.join(near)}?" if near else "`quantbench explain` lists all passes and errors"
        raise QuantbenchError(f"no pass and no error {name[:80]} is known; {hint}")
    if json_output:
        echo(json.dumps(asdict(found), indent=2))
        return
    console = make_console()
    phase = f"phase {found.phase}, {PHASES[found.phase][0]}" if found.phase else "outside the Q/DQ phases"
    echo(f"{found.name} ({phase})\n")
    print_text(console, found.does)
    echo()
    print_text(console, f"For INT8: {found.int8}")
    echo()
    echo("".join(f"    {line}\n" for line in found.drawing.split("\n")))
    echo("--> float, ==> INT8")


def _error(entry: "ErrorEntry", json_output: bool) -> None:
    import json

    from quantbench.cli.inspect_table import make_console, print_text

    if json_output:
        data = {
            "name": entry.name, "printed": entry.printed, "meaning": entry.meaning, "causes": list(entry.causes),
            "next": entry.command, "thread": entry.url,
        }  # fmt: skip
        echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    console = make_console()
    echo(f"{entry.name}\n")
    print_text(console, entry.printed, 4)
    echo()
    print_text(console, entry.meaning)
    echo("\nCauses, the likeliest first:")
    for cause in entry.causes:
        print_text(console, cause, 2, "- ")
    echo()
    print_text(console, entry.command, 0, "→ ")
    print_text(console, f"see {entry.url}")
