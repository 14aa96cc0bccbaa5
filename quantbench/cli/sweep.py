"""`quantbench sweep`: recipes times a grid of values, by processes or on a Ray cluster, into one report."""

from pathlib import Path

import typer

from quantbench.cli.options import Trust
from quantbench.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep")(sweep)


def sweep(
    recipes: list[Path] = typer.Argument(..., help="Recipes (YAML)."),
    grid: list[str] = typer.Option(
        [], metavar="KEY=A,B", help="Recipe key and its values, e.g. calibrator=minmax,mse; may be repeated."
    ),
    out: Path = typer.Option(Path("runs/sweep"), help="Folder of the trials and of their report."),
    jobs: int = typer.Option(1, min=1, help="Trials at a time on this machine."),
    ray: str = typer.Option("", metavar="ADDRESS", help="Run on this Ray cluster ('auto', or host:port)."),
    minutes: float = typer.Option(None, min=0, help="Start no trial after so long."),
    trust: Trust = False,
    device: str = typer.Option(
        "", help="Learnt device that the report's verdict judges latency on (quantbench device list)."
    ),
) -> None:
    """Run every combination, and keep report.html over all that are done up to date while it runs.

    The same command again does what is missing. A lost worker costs its trial, which another does.

    Example: quantbench sweep my.yaml --grid calibrator=minmax,mse --grid placement.method=rules,best --jobs 2
    """
    from quantbench.cli.gate import gate
    from quantbench.cli.sweep_trials import parse_grid, trials_of
    from quantbench.decide.costs import times_of
    from quantbench.decide.sweep import run_sweep, summary
    from quantbench.progress import Progress
    from quantbench.records.run import load_run
    from quantbench.report.decision import decide
    from quantbench.report.write import write_decision

    trials = trials_of(recipes, parse_grid(grid), trust=trust)

    def write(done: list[Path]) -> None:
        if not done:
            return
        opened = [(path, load_run(path)) for path in done]
        (first, record), *others = opened
        decision = decide(first, record, times=times_of(device), device=device, others=others)
        write_decision(out, opened, decision)

    state = run_sweep(trials, out, Progress(), jobs=jobs, ray=ray, minutes=minutes, on_done=write)
    counts = summary(trials, state)
    done = [out / trial.name for trial in trials if not state[trial.name]]
    write(done)
    echo(", ".join(f"{count} {what}" for what, count in counts.items()))
    if done:
        echo(f"report: {out / 'report.html'}")
    gate([f"{name}: {fault}" for name, fault in state.items() if fault], "the same command does what is missing")
