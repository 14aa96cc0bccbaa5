"""`quantbench recipes`: list the shipped recipes, print one to copy."""

import typer

from quantbench.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="List the shipped recipes, or print one to copy.", invoke_without_command=True)
    group.callback()(list_recipes)
    group.command("show")(show)
    app.add_typer(group, name="recipes")


def list_recipes(context: typer.Context) -> None:
    """List the shipped recipes, or print one to copy."""
    if context.invoked_subcommand is not None:
        return
    from quantbench.recipe import load_recipe
    from quantbench.shipped import shipped_names

    for name, path in shipped_names("recipes", ".yaml").items():
        echo(f"{name:<16} {load_recipe(path).description}")
    echo("\nPrint one with 'quantbench recipes show NAME', copy it, edit it, run it with --recipe FILE.")


def show(name: str = typer.Argument(help="Name of a shipped recipe.")) -> None:
    """Print a recipe."""
    from quantbench.recipe_files import recipe_path

    echo(recipe_path(name).read_text(encoding="utf-8"), nl=False)
