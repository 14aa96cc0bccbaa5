"""The golden texts of the placement rules, network in, plan out (golden.py says how to write them anew)."""

import importlib.util
from pathlib import Path

import pytest
from golden import FOLDER, planned, split

from quantbench.qdq.place import RULES

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.stem for path in FOLDER.glob("*.txt"))


@pytest.mark.parametrize("name", FILES)
def test_plan_is_the_golden_one(name: str) -> None:
    network, plan = split((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))
    assert plan
    assert planned(network) == plan


def test_every_rule_has_a_golden_text() -> None:
    assert {rule.__name__.rpartition(".")[2] for rule in RULES} <= set(FILES)


def test_a_replay_prints_the_lines_that_changed(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("replay", ROOT / "scripts" / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    replay = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(replay)
    replay.print_difference("== a\none\ntwo\n== b\nsame\n", "== a\none\nthree\n== b\nsame\n", "HEAD")
    assert capsys.readouterr().out == "== a\n-two\n+three\nreplay: 1 of 2 networks differ from HEAD\n"
    assert replay.random_network(3) == replay.random_network(3)
