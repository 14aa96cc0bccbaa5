"""Every rule of every pass is quoted, from its docstring, by a test."""

import test_passes_float
import test_passes_int8
from rules import QUOTED, rules


def test_every_rule_is_quoted_by_a_test() -> None:
    assert test_passes_float
    assert test_passes_int8
    assert set(rules()) == QUOTED
