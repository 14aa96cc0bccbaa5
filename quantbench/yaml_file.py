"""Read a YAML file that may come from anyone, or say in one line why not."""

from pathlib import Path
from typing import Any

import yaml

from quantbench import limits
from quantbench.errors import QuantbenchError

# Values that a recipe or a data.yaml may hold once its aliases are written out: each is checked and copied.
_MOST_VALUES = 100_000


def read_yaml(path: Path, what: str) -> Any:
    """Plain data of the YAML file at `path`; `what` it is stands in messages ("recipe").

    Raises QuantbenchError for a file that cannot be read, is no YAML or no UTF-8, is over `limits.RECIPE_BYTES`, or
    whose aliases expand to more than it could mean (an alias bomb, or an alias of itself).
    """
    try:
        limits.regular_file(path, limits.RECIPE_BYTES)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QuantbenchError(f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        raise QuantbenchError(f"{what} {path} is not valid YAML{line}: {getattr(error, 'problem', error)}") from error
    except (ValueError, RecursionError) as error:  # a date that is none, brackets ten thousand deep
        raise QuantbenchError(f"{what} {path} is not valid YAML: {str(error)[:120]}") from error
    limits.check(f"{what} {path}, its aliases written out,", limits.values_of(data), _MOST_VALUES, "values")
    return data
