"""Every rule of every pass is quoted, from its docstring, by a test."""

from tests.predict import test_passes_float, test_passes_int8
from tests.predict.rules import QUOTED, rules


def test_every_rule_is_quoted_by_a_test() -> None:
    assert test_passes_float
    assert test_passes_int8
    assert set(rules()) == QUOTED
