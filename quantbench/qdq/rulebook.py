"""The placement rules as a reader finds them, from their docstrings: purpose, numbered rules, drawing."""

import inspect
import re
from dataclasses import dataclass

from quantbench.qdq.place import RULES

_RULES, _DRAWING = "\n\nRules:\n", "\n\nBefore and after:\n"


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """`numbered` are the rules, in order; `drawing` shows a network before and after."""

    name: str
    does: str
    numbered: tuple[str, ...]
    drawing: str


def rulebook() -> dict[str, RuleEntry]:
    """Entries by the name of the rule, in the order in which the rules run."""
    return {entry.name: entry for entry in map(_entry, RULES)}


def _entry(rule: object) -> RuleEntry:
    text, _, drawing = (inspect.getdoc(rule) or "").partition(_DRAWING)
    does, _, numbered = text.partition(_RULES)
    found = re.findall(r"^\d+\. (.*(?:\n   .*)*)", numbered, flags=re.M)
    name = getattr(rule, "__name__", "").rpartition(".")[2]
    return RuleEntry(name, does.strip(), tuple(" ".join(item.split()) for item in found), inspect.cleandoc(drawing))
