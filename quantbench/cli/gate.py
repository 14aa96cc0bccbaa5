"""What a CI run fails on: the missed gates, the next command, exit code 3."""

import typer

from quantbench.terminal import echo


def gate(missed: list[str], next_step: str) -> None:
    """Print the gates that were missed on stderr and exit with code 3; do nothing where there are none."""
    from quantbench.decide.gates import EXIT_GATE

    if not missed:
        return
    for line in missed:
        echo(f"quantbench: gate: {line}", err=True)
    if next_step:
        echo(f"quantbench: next: {next_step}", err=True)
    raise typer.Exit(EXIT_GATE)
