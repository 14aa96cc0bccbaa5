"""`quantbench schema`: JSON schemas of the files that quantbench writes and reads."""

import json

import typer

from quantbench.terminal import echo

_KINDS = ("run", "recipe")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("schema")(schema)


def schema(kind: str = typer.Argument(help="run (run.json of a run folder) or recipe (a YAML recipe).")) -> None:
    """Print the JSON schema of run.json or of a recipe."""
    from quantbench.errors import QuantbenchError

    if kind == "run":
        from quantbench.records.run import run_schema

        found = run_schema()
    elif kind == "recipe":
        from quantbench.recipe import Recipe

        found = Recipe.model_json_schema()
    else:
        raise QuantbenchError(f"no schema {kind!r}; there are {', '.join(_KINDS)}")
    echo(json.dumps(found, indent=2))
