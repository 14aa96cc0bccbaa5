"""The golden texts of the placement rules, network in, plan out (golden.py says how to write them anew)."""

import pytest
from golden import FOLDER, planned, split

from quantbench.qdq.place import RULES

FILES = sorted(path.stem for path in FOLDER.glob("*.txt"))


@pytest.mark.parametrize("name", FILES)
def test_plan_is_the_golden_one(name: str) -> None:
    network, plan = split((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))
    assert plan
    assert planned(network) == plan


def test_every_rule_has_a_golden_text() -> None:
    assert {rule.__name__.rpartition(".")[2] for rule in RULES} <= set(FILES)
