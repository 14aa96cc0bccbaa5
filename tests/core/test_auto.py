"""Calibrator auto: mse unless the outputs say otherwise, judged on them, and said in run.json and report."""

import inspect
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import quantbench
from quantbench.calibration.collect import collect
from quantbench.core.auto import (
    CANDIDATES,
    PRIOR,
    SAFE,
    Judging,
    _Figures,
    _is_better,
    best_by_outputs,
    best_of,
    judged_samples,
    lead,
)
from quantbench.core.quantize import BIAS_IMAGES, for_onnxruntime
from quantbench.data.sources import at_most, dataset_source, feeds, labelled
from quantbench.errors import QuantbenchError
from quantbench.evaluate.outputs import compare_outputs, measures_of
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.images.preprocess import Preprocess
from quantbench.ort import create_session
from quantbench.ptq.calibrator_choice import choose
from quantbench.ptq.measure import runner
from quantbench.ptq.request import ModelChoice, PtqRequest
from quantbench.qdq.carry_out import Correction
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.recipe import Recipe
from quantbench.records.judged import JudgedDb
from quantbench.records.run import load_run
from quantbench.report.blocks import Table
from quantbench.report.sections import thresholds
from tests.ptq.small_run import run, write_data, write_model

MODELS = Path(__file__).parents[1] / "data" / "models"
Feeds = list[dict[str, np.ndarray]]


def judging(model: onnx.ModelProto, plan: Plan, batches: Feeds) -> Judging:
    count = sum(len(feed["x"]) for feed in batches)
    return Judging(model, plan, lambda: batches, count, Correction(lambda: batches, count, 1), False, threads=1)


def spiky(folder: Path, level: float) -> tuple[onnx.ModelProto, Feeds]:
    """Three layers whose data hold one value of `level` times the others in every picture."""
    model = load_model(write_model(folder / "m.onnx"))
    batches = []
    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=(4, 3, 8, 8)).astype(np.float32)
        x[:, 0, 0, 0] = level
        batches.append({"x": x})
    return model, batches


@pytest.mark.parametrize("count", [1, 12, 64, 79, 80, 512])
def test_judged_samples_are_apart_where_there_are_enough(count: int) -> None:
    judged, apart = judged_samples(count)
    assert 0 < len(judged) <= 64
    assert len(set(judged)) == len(judged)
    assert set(judged) <= set(range(count))
    assert apart == (count >= 80)
    if apart:
        assert not set(judged) & {int(i) for i in np.linspace(0, count - 1, BIAS_IMAGES)}


@pytest.mark.parametrize("level", [4.0, 40.0, 4000.0])
def test_what_is_taken_is_not_behind_minmax_on_the_judged_samples(tmp_path: Path, level: float) -> None:
    model, batches = spiky(tmp_path, level)
    plan = place(view_of(model))
    taken = best_by_outputs(collect(model, batches, plan.tensors, threads=1), judging(model, plan, batches))
    found = {each.method: each.finished for each in taken.judged.candidates}
    assert list(found) == list(CANDIDATES)
    assert None not in (found[SAFE], found[PRIOR])
    assert sum(value is not None for value in found.values()) <= 3
    assert found[taken.judged.taken].sqnr >= found[SAFE].sqnr - 0.6
    assert all(each.first is not None for each in taken.judged.candidates)
    # The model that comes with it is the one that was judged.
    sessions = [create_session(m, threads=1) for m in (model, for_onnxruntime(taken.made.model))]
    norms = np.zeros(2)
    for feed in batches:
        a, b = (session.run(None, feed)[0] for session in sessions)
        norms += np.linalg.norm(a, axis=1).sum(), np.linalg.norm(a - b, axis=1).sum()
    assert found[taken.judged.taken].norms == pytest.approx(20 * np.log10(norms[0] / norms[1]), abs=1e-3)


def test_a_model_of_integer_outputs_gets_minmax(tmp_path: Path) -> None:
    model, batches = spiky(tmp_path, 4.0)
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["label"], "top", axis=1, keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    plan = place(view_of(model))
    taken = best_by_outputs(collect(model, batches, plan.tensors, threads=1), judging(model, plan, batches))
    assert taken.judged.taken == SAFE
    assert "no output could be compared" in taken.judged.in_words()


def test_on_a_trained_transformer_auto_is_not_behind_minmax_on_other_pictures() -> None:
    grey = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
    data = list(feeds(at_most(dataset_source("animal-mnist?split=train", grey), 96), "image", 16))
    others = at_most(dataset_source("animal-mnist?split=test", grey), 128)
    path = MODELS / "vit-animals.onnx"
    made = {name: quantbench.quantize(path, data, calibrator=name, threads=1) for name in ("auto", "minmax")}
    plain = runner(create_session(path, threads=1), 0)
    found = {}
    for name, result in made.items():
        int8 = runner(create_session(result.for_onnxruntime, threads=1), 0)
        found[name] = measures_of(compare_outputs(plain, int8, labelled(others, "image", 32)))["sqnr_db"].value
    assert made["auto"].judged.apart
    assert made["minmax"].judged is None
    assert found["auto"] > found["minmax"] - 0.1


def test_run_json_and_report_hold_the_candidates(tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "data")
    out = tmp_path / "run"
    record = run(tmp_path, out, calibrator="auto")
    judged = load_run(out).calibration.judged
    assert judged == record.calibration.judged
    assert not judged.apart  # eight samples serve both ends
    assert record.calibration.method == "auto"
    assert record.calibration.described == f"{judged.taken}, chosen by auto"
    (section,) = thresholds.sections(record)
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert [row[0].removesuffix(" (taken)") for row in table.rows] == list(CANDIDATES)
    # The model that was judged is the one that a run with its ranges alone makes.
    alone = run(tmp_path, tmp_path / "alone", calibrator=judged.taken)
    files = [{o.path: o.sha256 for o in r.stages["quantize"].outputs} for r in (record, alone)]
    assert files[0] == files[1]
    assert not (out / ".quantbench" / "judged").exists()
    again = run(tmp_path, out, calibrator="auto")
    assert again.stages["calibrate"].provenance == record.stages["calibrate"].provenance


def test_mse_is_the_default_and_auto_no_threshold_of_one_tensor() -> None:
    assert inspect.signature(quantbench.quantize).parameters["calibrator"].default == "mse"
    assert PtqRequest(ModelChoice("m.onnx")).calibrator == Recipe().calibration.calibrator == "mse"
    with pytest.raises(QuantbenchError, match="here name one of minmax"):
        choose("auto").threshold(None)


def figures(noise: list[float], sqnr: float) -> _Figures:
    norms = np.stack([np.full(len(noise), 100.0), np.asarray(noise)])
    return _Figures({"y": norms}, JudgedDb(norms=float(20 * np.log10(100.0 * len(noise) / sum(noise))), sqnr=sqnr))


def test_what_leads_by_one_figure_alone_or_by_chance_is_not_taken() -> None:
    safe = figures([1.0, 1.1, 0.9, 1.0], 40.0)
    assert _is_better(figures([0.9, 1.0, 0.8, 0.9], 39.95), safe)
    assert not _is_better(figures([0.5, 0.5, 0.5, 0.5], 39.8), safe)  # less by norms, more by energies
    assert not _is_better(figures([1.1, 1.2, 1.0, 1.1], 50.0), safe)
    assert not _is_better(figures([0.2, 1.3, 1.1, 1.2], 41.0), safe)  # one sample makes the lead
    # Every sample is better, which one of much noise would hide.
    wide = figures([0.1, 0.11, 0.09, 0.1, 5.0], 30.0)
    assert _is_better(figures([0.05, 0.06, 0.05, 0.05, 4.9], 30.1), wide)
    assert not _is_better(None, safe)
    assert lead(figures([0.5, 0.5, 0.5, 0.5], 39.8), safe) == pytest.approx(-0.2)


def test_minmax_takes_the_place_of_mse_only_where_it_leads() -> None:
    mse = figures([1.0, 1.1, 0.9, 1.0], 40.0)
    assert best_of({SAFE: figures([1.05, 1.0, 1.0, 0.95], 40.4), PRIOR: mse}, PRIOR) == PRIOR  # a toss of a coin
    assert best_of({SAFE: figures([1.1, 1.2, 1.0, 1.1], 40.6), PRIOR: mse}, PRIOR) == SAFE  # by energies, clearly
    assert best_of({SAFE: figures([0.9, 1.0, 0.8, 0.9], 40.0), PRIOR: mse}, PRIOR) == SAFE  # by norms, sample by sample
    assert best_of({SAFE: mse, PRIOR: None}, PRIOR) == SAFE  # nothing to judge


def test_another_has_to_lead_what_these_two_left() -> None:
    mse, minmax = figures([1.0, 1.1, 0.9, 1.0], 40.0), figures([1.2, 1.3, 1.1, 1.2], 38.0)
    rival = {"entropy": figures([0.9, 1.0, 0.8, 0.9], 40.0)}
    assert best_of({SAFE: minmax, PRIOR: mse, **rival}, "entropy") == "entropy"
    rival = {"entropy": figures([0.9, 1.0, 0.8, 1.3], 40.0)}
    assert best_of({SAFE: minmax, PRIOR: mse, **rival}, "entropy") == PRIOR
