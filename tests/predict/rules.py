"""Rules of the passes, as numbered in their docstrings, and which of them a test quotes."""

import importlib
import pkgutil
import re
from collections.abc import Callable
from typing import TypeVar

from quantbench.predict import passes

_Test = TypeVar("_Test", bound=Callable[..., None])
QUOTED: set[tuple[str, int]] = set()


def rules() -> dict[tuple[str, int], str]:
    """(file, number) to the rule, on one line."""
    found = {}
    for module in pkgutil.iter_modules(passes.__path__):
        doc = importlib.import_module(f"{passes.__name__}.{module.name}").__doc__ or ""
        for number, text in re.findall(r"^(\d+)\. (.*(?:\n   \S.*)*)", doc, re.MULTILINE):
            found[module.name, int(number)] = " ".join(text.split())
    return found


_RULES = rules()


def quotes(file: str, number: int, text: str) -> Callable[[_Test], _Test]:
    """Marks a test as that of a rule, which must hold `text`."""
    assert text in _RULES[file, number], (file, number, _RULES[file, number])
    QUOTED.add((file, number))
    return lambda test: test
