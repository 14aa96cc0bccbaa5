"""Recipes times a grid of values: the trials of `quantbench sweep`."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import JsonValue

from quantbench.decide.sweep import SweepTrial
from quantbench.errors import QuantbenchError
from quantbench.recipe import Recipe, load_recipe, named_code

# Code is named by the command line: what a grid names, and ptq has a flag for, is named so once more for the trial.
_CODE = {"calibration.calibrator": "--calibrator", "data.calib_dir": "--calib-dir", "evaluation.dir": "--eval-dir"}


def trials_of(recipes: Sequence[Path], grid: Mapping[str, Sequence[str]], *, trust: bool = False) -> list[SweepTrial]:
    """The product of recipes and grid, in order. Raises QuantbenchError for a key or value that no recipe has, and
    for code that a recipe names (see `load_recipe`)."""
    found = []
    for path in recipes:
        for combination in itertools.product(*grid.values()):
            values = dict(zip(grid, combination, strict=True))
            changes = {_key(key): _value(key, value) for key, value in values.items()}
            recipe = load_recipe(path, changes, trust=trust)
            words = [path.stem, *(f"{key.rpartition('.')[2]}-{value}" for key, value in values.items())]
            name = "".join(c if c.isalnum() or c in "-_." else "-" for c in "_".join(words))
            plain = {key: value for key, value in recipe.model_dump(mode="json").items() if key != "out"}
            found.append(SweepTrial(name, plain, values, _arguments(recipe, trust)))
    names = [trial.name for trial in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise QuantbenchError(f"two trials of the sweep would both be {twice}; give recipes and values once each")
    return found


def parse_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """`key=a,b` texts as a grid. Raises QuantbenchError."""
    grid: dict[str, list[str]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        parts = [part.strip() for part in values.split(",") if part.strip()]
        if not equals or not key.strip() or not parts:
            raise QuantbenchError(f"--grid {text!r} is not key=value,value (calibrator=minmax,mse)")
        if key.strip() in grid:
            raise QuantbenchError(f"--grid names {key.strip()} twice; put all its values into one")
        grid[key.strip()] = parts
    return grid


def _arguments(recipe: Recipe, trust: bool) -> tuple[str, ...]:
    code = named_code(recipe)
    others = [key for key in code if key not in _CODE]
    if others and not trust:
        raise QuantbenchError(
            f"--grid {others[0]} names code to run ({code[others[0]]}); if you trust it, give --trust"
        )
    named = [word for key in code if key in _CODE for word in (_CODE[key], code[key])]
    return (*named, *(["--trust"] if trust else []))


def _value(key: str, text: str) -> JsonValue:
    try:
        found: JsonValue = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise QuantbenchError(f"--grid {key}={text[:60]} is no YAML value; put a text in quotes") from error
    return found


def _key(key: str) -> str:
    """`calibrator` is short for `calibration.calibrator`, as on the command line of ptq."""
    return {"calibrator": "calibration.calibrator", "method": "placement.method"}.get(key, key)
