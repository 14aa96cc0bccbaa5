"""The golden texts of the placement rules, network in, plan out (golden.py says how to write them anew)."""

import importlib.util
from pathlib import Path

import pytest

from quantbench.errors import QuantbenchError
from quantbench.graph.onnx_view import view_of
from quantbench.qdq.explain_node import explained, find_node
from quantbench.qdq.place import RULES, place
from quantbench.qdq.rulebook import rulebook
from tests.qdq.golden import FOLDER, parse, planned, split

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.stem for path in FOLDER.glob("*.txt"))


@pytest.mark.parametrize("name", FILES)
def test_plan_is_the_golden_one(name: str) -> None:
    network, plan = split((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))
    assert plan
    assert planned(network) == plan


def test_every_rule_has_a_golden_text() -> None:
    assert {rule.__name__.rpartition(".")[2] for rule in RULES} <= set(FILES)


def test_golden_texts_quote_every_numbered_rule() -> None:
    for name, entry in rulebook().items():
        first = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()[0]
        assert entry.drawing
        quoted = {int(n) for n in first.removeprefix("# rules:").split(",")}
        shown = set(range(1, len(entry.numbered) + 1))
        assert quoted <= shown
        assert shown - quoted == NOT_IN_A_PLAN.get(name, set())


# An error, and a weight that folding leaves computed, are tested where they arise (test_place.py).
NOT_IN_A_PLAN = {"keep_named": {2}, "attention": {1}, "weighted": {3}, "plugin": {4}}


def test_a_node_is_explained_with_the_refusal_and_the_rules() -> None:
    network, _ = split((FOLDER / "pooling.txt").read_text(encoding="utf-8"))
    model, options = parse(network)
    view = view_of(model)
    plan = place(view, options)
    lines = list(explained(view, plan, find_node(view, "q")))
    assert "not quantized by rule pooling: what it writes is not read in INT8 by all its readers" in lines
    assert any(line.startswith("pooling 2: not where something reads") for line in lines)
    assert "Q/DQ on input 0, a (pooling)" in list(explained(view, plan, find_node(view, "p")))
    assert any("stays float: head" in line for line in explained(view, plan, find_node(view, "e")))
    with pytest.raises(QuantbenchError, match="no node 'zz'"):
        find_node(view, "zz")


def test_a_replay_prints_the_lines_that_changed(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("replay", ROOT / "scripts" / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    replay = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(replay)
    replay.print_difference("== a\none\ntwo\n== b\nsame\n", "== a\none\nthree\n== b\nsame\n", "HEAD")
    assert capsys.readouterr().out == "== a\n-two\n+three\nreplay: 1 of 2 networks differ from HEAD\n"
    assert replay.random_network(3) == replay.random_network(3)
