"""Recipes by name (shipped in `recipes/`) or by path."""

import difflib
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.shipped import shipped_names


def recipe_path(name: str) -> Path:
    """File of the recipe called `name`, or `name` itself if it is a path. Raises QuantbenchError for neither."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name)
    known = shipped_names("recipes", ".yaml")
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise QuantbenchError(f"no recipe {name!r}; {hint} (or give a path to a .yaml file)")
