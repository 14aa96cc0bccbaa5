"""Finding assets inside installed packages, without importing the packages (some would pull in half the world)."""

import importlib.util
from pathlib import Path

from quantbench.errors import QuantbenchError

DEMO = "pip install 'quantbench[demo]'"


def package_folder(module: str, what: str, install: str = DEMO) -> Path:
    """Folder of the top-level `module`. Raises QuantbenchError with `what` needs it and the `install` command."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise QuantbenchError(f"{what} needs the package {module}, which is not installed: {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def package_file(module: str, inside: str, what: str, install: str = DEMO) -> Path:
    """The file `inside` the package `module`. Raises QuantbenchError where package or file is missing."""
    path = package_folder(module, what, install) / inside
    if not path.is_file():
        raise QuantbenchError(f"{what} needs {inside} of the package {module}, but this version lacks it: {install}")
    return path
