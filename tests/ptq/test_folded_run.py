"""A PTQ run with equalization: what the folder holds, what makes it begin anew, and what goes with what."""

import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import quantbench
from quantbench.cli.requests import ptq_request
from quantbench.compilation.request import CompileRequest
from quantbench.errors import QuantbenchError
from quantbench.folding.options import FoldOptions
from quantbench.ort import create_session
from quantbench.progress import Progress
from quantbench.ptq import scaled
from quantbench.ptq.prepare import prepare
from quantbench.ptq.ranks import Group
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest
from quantbench.ptq.scaled import Decision, folding_of
from quantbench.ptq.share import count_share
from quantbench.recipe import Recipe
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Text
from quantbench.report.leads import leads_of
from quantbench.report.sections import folding
from quantbench.report.verdict import Command
from quantbench.run_folder import RunFolder
from tests.ptq import small_run
from tests.ptq.small_run import run, write_data

LAYERS = ("conv1", "depthwise", "pointwise", "head")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network whose channels differ by a factor of up to 64 where they can be scaled, and data."""
    monkeypatch.setattr(small_run, "LAYERS", LAYERS)
    random = np.random.default_rng(0)
    loud = np.exp2(random.uniform(-6, 0, 24))
    weights = {
        "w1": random.normal(size=(24, 3, 1, 1)) * loud[:, None, None, None], "b1": 3 * loud,
        "w2": random.normal(size=(24, 1, 3, 3)), "w3": random.normal(size=(16, 24, 1, 1)) / loud[None, :, None, None],
        "w4": random.normal(size=(8, 16, 1, 1)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "conv1"),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "depthwise", group=24, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w3"], ["d"], "pointwise"),
        helper.make_node("Relu", ["d"], ["e"], "relu2"),
        helper.make_node("Conv", ["e", "w4"], ["y"], "head"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 8, 8])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    write_data(tmp_path / "data", files=4)
    return tmp_path


def sqnr(record: PtqRun) -> float:
    assert record.evaluation.outputs.sqnr_db is not None
    return record.evaluation.outputs.sqnr_db.value


def test_auto_equalizes_where_that_helps_and_tells_by_how_much(folder: Path) -> None:
    plain = run(folder, folder / "plain")
    assert plain.calibration.folded is None
    record = run(folder, folder / "out", fold=FoldOptions("auto", "auto"))
    folded = record.calibration.folded
    assert folded is not None
    assert folded.taken == ("equalize",)
    assert sqnr(record) > sqnr(plain) + 6
    assert record.placement == plain.placement  # the same layers in INT8
    without, taken = folded.trials[0].sqnr_db, folded.trials[-1].sqnr_db
    assert without is not None
    assert taken is not None
    assert taken > without + 6
    # Layers are held against the network that was quantized: its inner tensors are the scaled ones.
    assert min(e.sqnr_db for e in record.evaluation.layers if e.sqnr_db is not None) > 20
    assert "equalization at" in str(folding.sections(record))
    assert folding.sections(plain) == ()
    command = Command("m.onnx", "data", "minmax", False, "model.qdq.onnx")
    told = [[lead.next_step for lead in leads_of(one, command)] for one in (plain, record)]
    asked = [any("--equalize auto --smooth auto" in step for step in steps) for steps in told]
    assert asked == [True, False]


def test_a_network_that_is_left_alone_costs_a_line_of_the_report(tmp_path: Path) -> None:
    small_run.write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "data")
    record = run(tmp_path, tmp_path / "out", fold=FoldOptions("auto", "auto"))
    folded = record.calibration.folded
    assert folded is not None
    assert folded.taken == ()
    assert not (tmp_path / "out" / "model.folded.onnx").exists()
    (section,) = folding.sections(record)
    assert all(isinstance(block, Text) for block in section.blocks)
    assert "left as they are" in str(section)
    assert f"All that took {folded.seconds:.1f} s" in str(section)
    again = run(tmp_path, tmp_path / "out", fold=FoldOptions("auto", "auto"))
    assert again.calibration.folded == folded  # looked at once


def test_the_folded_model_is_left_and_gives_what_the_float_model_gives(folder: Path) -> None:
    run(folder, folder / "out", fold=FoldOptions("on"))
    x = np.load(folder / "data" / "0.npy")
    first, second = (create_session(path, threads=1).run(None, {"x": x})[0]
                     for path in (folder / "m.onnx", folder / "out" / "model.folded.onnx"))  # fmt: skip
    assert np.abs(first - second).max() <= 1e-5 * np.abs(first).max()


def test_another_word_makes_the_run_anew_and_off_leaves_nothing_of_it(folder: Path) -> None:
    out = folder / "out"
    first = run(folder, out, fold=FoldOptions("on"))
    again = run(folder, out, fold=FoldOptions("on"))
    assert {name: stage.provenance.time for name, stage in first.stages.items()} == {
        name: stage.provenance.time for name, stage in again.stages.items()
    }
    tried = run(folder, out, fold=FoldOptions("auto"))
    assert tried.stages["fold"].key != first.stages["fold"].key
    assert tried.stages["calibrate"].key == first.stages["calibrate"].key  # it came to the same network
    plain = run(folder, out)
    assert "fold" not in plain.stages
    assert not (out / "model.folded.onnx").exists()
    assert sqnr(plain) < sqnr(first) - 6


def test_ranges_of_a_scaled_network_are_not_reused_for_another(folder: Path) -> None:
    run(folder, folder / "out", fold=FoldOptions("on"))
    with pytest.raises(QuantbenchError, match="--refresh calibrates anew"):
        run(folder, folder / "out", cache="reuse")
    assert run(folder, folder / "out", cache="refresh").calibration.folded is None
    assert run(folder, folder / "out", cache="reuse").calibration.source == "calibration.cache"


def test_python_has_the_same_words(folder: Path) -> None:
    batches = [np.load(path) for path in sorted((folder / "data").iterdir())]
    found = quantbench.quantize(folder / "m.onnx", iter(batches), threads=1)
    assert found.folded is not None
    assert found.folded.taken == ("equalize",)
    assert quantbench.quantize(folder / "m.onnx", batches, equalize="off", smooth="off").folded is None
    word: Any = "yes"
    with pytest.raises(QuantbenchError, match="'yes' is none of auto, on, off"):
        quantbench.quantize(folder / "m.onnx", batches, smooth=word)


def test_a_recipe_names_them_and_refuses_other_words() -> None:
    recipe = Recipe().merged({"calibration.equalize": "on", "calibration.smooth": "auto"})
    assert ptq_request(recipe).fold == FoldOptions("on", "auto")
    assert ptq_request(Recipe()).fold == FoldOptions("auto", "auto")
    with pytest.raises(QuantbenchError, match=r"calibration\.equalize = 'yes'"):
        Recipe().merged({"calibration.equalize": "yes"})


def test_others_of_torchrun_count_the_scaled_network_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes after the decision counts all; one that comes before it waits. The ranges are those of one."""
    more: dict[str, Any] = {"batch_size": 4, "threads": 1}
    run(folder, folder / "one", fold=FoldOptions("auto", "auto"), **more)
    wanted = (folder / "one" / "ranges.json").read_bytes()
    notes: list[str] = []
    monkeypatch.setattr(Progress, "note", lambda self, text: notes.append(text))

    def share(out: Path, fold: FoldOptions) -> None:
        request = PtqRequest(
            ModelChoice(str(folder / "m.onnx")), DataChoice(folder / "data"), calibrator="minmax", latency=False,
            compile=CompileRequest("none"), out=out, fold=fold, **more,
        )  # fmt: skip
        count_share(request, Group(1, 2, 1, 2), Progress("none"), overwrite=False, refresh=False)

    (first := folder / "cut").mkdir()
    shutil.copytree(folder / "one" / ".quantbench", first / ".quantbench")
    for name in ("model.folded.onnx", "folded.json"):
        shutil.copy(folder / "one" / name, first / name)
    (first / ".quantbench" / "histograms.npz").unlink()
    share(first, FoldOptions("auto", "auto"))
    assert notes[-1] == "Process 1 of 2 counted 4 of 4 pieces"
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    run(folder, first, fold=FoldOptions("auto", "auto"), **more)
    assert any("in 4 pieces, 4 of which an earlier run has counted" in note for note in notes)
    assert (first / "ranges.json").read_bytes() == wanted
    for mode in ("auto", "on"):
        monkeypatch.setattr(Progress, "note", lambda self, text: notes.append(text))
        fold = FoldOptions(mode, mode)  # type: ignore[arg-type]
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(share, folder / mode, fold)
            run(folder, folder / mode, fold=fold, **more)
            other.result(timeout=60)
        assert any("Process 1 of 2 counted" in n for n in notes)
        assert (folder / mode / "ranges.json").read_bytes() == wanted


def test_who_waits_for_the_first_leaves_when_it_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that was there and went without a decision: its run failed."""
    request = PtqRequest(ModelChoice(str(folder / "m.onnx")), DataChoice(folder / "data"), out=folder / "out",
                         fold=FoldOptions("on"), compile=CompileRequest("none"))  # fmt: skip
    prepared = prepare(request)
    run_folder = RunFolder(folder / "out")
    decision = Decision(folding_of(request, prepared, Progress("none")), run_folder)
    holder = folder / "out" / ".quantbench" / "holder.json"
    holder.parent.mkdir(parents=True)

    def held_by(pid: int) -> bool:
        holder.write_text(json.dumps({"pid": pid, "host": platform.node(), "since": "", "command": ""}))
        return run_folder.is_held()

    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    assert not held_by(killed.pid)  # it says still that it holds the folder
    assert held_by(os.getpid())
    monkeypatch.setattr(scaled.time, "sleep", lambda _: holder.unlink(missing_ok=True))
    assert not decision.awaited()
    assert decision.scaled() is None
    monkeypatch.setattr(scaled, "_COMES", 0.0)
    assert not decision.awaited()
