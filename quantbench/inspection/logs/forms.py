"""The form of a sentence: its fixed words, with names, paths and numbers left out, so that lines can be counted."""

import re
from dataclasses import dataclass

# A name or a number: it holds a digit, a path, a scope or brackets.
_VARIABLE = re.compile(r"\S*[\d/\\_\[\]{}]\S*|\S+(?:::|\.)\w\S*|\S+->\S+")
_GAPS = re.compile(r"(?:… ?)+")
_LONGEST = 120


@dataclass(frozen=True, slots=True)
class UnknownForm:
    """Lines of one form: how many there are, and the first of them."""

    form: str
    count: int
    line: int
    message: str


def form_of(message: str) -> str:
    """`Fast skip Tactic:0x4609 which exceed` as `Fast skip … which exceed`."""
    shortened = _GAPS.sub("… ", _VARIABLE.sub("…", message.strip()[:400])).strip()
    return shortened[:_LONGEST]
