"""`quantbench report`: one page over one run or several, with a verdict."""

import json
from pathlib import Path

import typer

from quantbench.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    runs: list[Path] = typer.Argument(..., help="Run folders; the verdict speaks of the first."),
    out: Path = typer.Option(None, help="Folder for report.html, .md and .json. (default: the run's, or ./report)"),
    device: str = typer.Option("", help="Learnt device that the verdict judges latency on (quantbench device list)."),
    good_drop: float = typer.Option(0.5, help="Green: at most so many points of the task's measure lost."),
    bad_drop: float = typer.Option(2.0, help="Red from so many points lost."),
    good_alike: float = typer.Option(98.0, help="Green: at least so many percent of FP32's answers, without labels."),
    bad_alike: float = typer.Option(90.0, help="Red: fewer percent of FP32's answers."),
    good_sqnr: float = typer.Option(20.0, help="Green: at least so many dB, where there are no answers."),
    bad_sqnr: float = typer.Option(10.0, help="Red: fewer dB."),
    least_speedup: float = typer.Option(1.05, help="INT8 is worth it from this speed-up on."),
    as_json: bool = typer.Option(False, "--json", help="Print the page's data and verdict as JSON and nothing else."),
) -> None:
    """Set runs side by side: verdict, accuracy against latency, leads, layers, ranges, the network, differences.

    Example: quantbench report runs/model-minmax runs/model-mse
    """
    from quantbench.decide.costs import times_of
    from quantbench.records.run import load_run
    from quantbench.report.decision import decide
    from quantbench.report.verdict import Thresholds
    from quantbench.report.write import decision_json, write_decision

    thresholds = Thresholds(good_drop, bad_drop, good_alike, bad_alike, good_sqnr, bad_sqnr, least_speedup)
    opened = [(folder, load_run(folder)) for folder in runs]
    (folder, first), *others = opened
    decision = decide(folder, first, times=times_of(device), device=device, thresholds=thresholds, others=others)
    if as_json:
        echo(json.dumps(decision_json(decision), indent=2))
        return
    target = out or (folder if not others else Path("report"))
    write_decision(target, opened, decision)
    echo(f"{decision.verdict.level}: {decision.verdict.headline}. {decision.verdict.sentence}.")
    if decision.verdict.next_step:
        echo(f"next: {decision.verdict.next_step}")
    echo(f"report: {target / 'report.html'}")
