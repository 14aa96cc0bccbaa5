"""Records: to JSON and back, refusals in one line, the published schema."""

import json
from pathlib import Path

import pytest

from quantbench.errors import QuantbenchError
from quantbench.records.evaluation import Evaluation, LayerError, Measured, Outputs, Sizes
from quantbench.records.facts import DataFacts, Output
from quantbench.records.run import load_run, run_schema

EVALUATION = Evaluation(
    task="unknown",
    task_why="nothing tells",
    parts=(),
    outputs=Outputs(sqnr_db=Measured(30.0, 29.0, 31.0, 8), boxes_kept=Measured(0.5, 0.4, 0.6, 12, "boxes")),
    layers=(LayerError("conv", "Conv", "y", 21.5, 0.99),),
    sizes=Sizes(plain=3, qdq=2, onnxruntime=1),
)


def test_to_json_and_back() -> None:
    text = EVALUATION.to_json()
    assert Evaluation.from_json(text, "there") == EVALUATION
    assert json.loads(text)["outputs"]["boxes_kept"] == {
        "value": 0.5, "low": 0.4, "high": 0.6, "count": 12, "unit": "boxes",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"path": "x"}', '{"path": "x", "sha256": "0", "bytes": 1, "more": 2}']
)
def test_another_form_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(text)
    with pytest.raises(QuantbenchError, match=r"o\.json cannot be read.*") as caught:
        Output.load(tmp_path / "o.json")
    assert "\n" not in str(caught.value)


def test_a_record_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DataFacts(what="x", images=1, sha256="0").images = 2


def test_an_old_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"kind": "ptq", "versions": {}}')
    with pytest.raises(QuantbenchError, match="no record of this version"):
        load_run(tmp_path)


def test_the_schema_command(cli) -> None:
    code, out, _ = cli("schema", "run")
    assert code == 0
    assert json.loads(out) == run_schema()
    kinds = {name: d["properties"] for name, d in json.loads(out)["$defs"].items() if name in ("PtqRun", "QatRun")}
    assert kinds["PtqRun"]["evaluation"]
    assert kinds["QatRun"]["exported"]
    assert cli("schema", "recipe")[0] == 0
    code, _, error = cli("schema", "runn")
    assert code == 2
    assert "run" in error
