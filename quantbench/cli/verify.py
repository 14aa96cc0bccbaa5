"""`quantbench verify`: is a run folder still what the run left, on the model and data that it had."""

import json
from pathlib import Path

import typer

from quantbench.cli.options import Json
from quantbench.terminal import echo

EXIT_CHANGED = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    run: Path = typer.Argument(..., help="Run folder."),
    no_data: bool = typer.Option(False, "--no-data", help="Leave calibration and evaluation data alone."),
    trust: bool = typer.Option(False, "--trust", help="Run code that the run's recipe names, to read its data."),
    as_json: Json = False,
) -> None:
    """Compute the hashes of a run anew (its files, its model, its data) and say what changed since. Exit code 1 where
    anything did.

    Example: quantbench verify runs/model-minmax
    """
    from dataclasses import asdict

    from quantbench.cli.requests import ptq_request
    from quantbench.ptq import verify as checks
    from quantbench.recipe import named_code, validated
    from quantbench.records.run import PtqRun, load_run

    record = load_run(run)
    found = [*checks.outputs(run, record), checks.model(record)]
    if not no_data and isinstance(record, PtqRun):
        recipe = validated(record.recipe, f"recipe of {run}")
        code = named_code(recipe)
        if code and not trust:
            reason = f"the recipe names code ({', '.join(code.values())}); --trust runs it, to look at the data"
            found.append(checks.Checked("data", reason, unknown=True))
        else:
            found += checks.data(record, ptq_request(recipe, trust=trust))
    elif not no_data:
        found.append(checks.Checked("data", "qat-export reads them through the torch model", unknown=True))
    changed = [item for item in found if item.change and not item.unknown]
    if as_json:
        echo(json.dumps({"changed": len(changed), "checked": [asdict(item) for item in found]}, indent=2))
    else:
        for item in found:
            state = "not checked: " if item.unknown else ""
            echo(f"{item.what}: {state}{item.change or 'unchanged'}")
        echo(f"{len(changed)} of {len(found)} changed since {record.provenance.time}")
    if changed:
        raise typer.Exit(EXIT_CHANGED)
