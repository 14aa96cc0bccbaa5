"""Calibrator auto: mse over the samples with signal, unless the outputs say minmax; said in run.json and report."""

import inspect
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import quantbench
from quantbench.calibration.collect import collect
from quantbench.calibration.ort_outputs import runner
from quantbench.core.auto import PRIOR, SAFE, beside, best_by_outputs, leads
from quantbench.core.bench import Judging, judged_samples
from quantbench.core.quantize import BIAS_IMAGES, for_onnxruntime
from quantbench.core.signal import Signal, energies_of, rows_of, together
from quantbench.data.sources import at_most, dataset_source, feeds, labelled
from quantbench.errors import QuantbenchError
from quantbench.evaluate.outputs import compare_outputs, measures_of
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.images.preprocess import Preprocess
from quantbench.ort import create_session
from quantbench.ptq.calibrator_choice import choose
from quantbench.ptq.request import ModelChoice, PtqRequest
from quantbench.qdq.carry_out import Correction
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.recipe import Recipe
from quantbench.records.judged import Beside, Judged
from quantbench.records.run import load_run
from quantbench.report.blocks import Table, Text
from quantbench.report.sections import thresholds
from tests.ptq.small_run import run, write_data, write_model

MODELS = Path(__file__).parents[1] / "data" / "models"
Feeds = list[dict[str, np.ndarray]]
DEFAULT = inspect.signature(quantbench.quantize).parameters["calibrator"].default


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


def network(last: list[onnx.NodeProto], bias: float) -> onnx.ModelProto:
    """Two convs of 16 channels, the second with `bias` on all, then `last`, from `b` to `y`."""
    rng = np.random.default_rng(0)
    stored = {
        "w1": np.abs(rng.normal(size=(16, 16, 1, 1))) / 8,
        "w2": np.abs(rng.normal(size=(16, 16, 1, 1))) / 8,
        "b2": np.full(16, bias),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1"),
        helper.make_node("Conv", ["a", "w2", "b2"], ["b"], "conv2"),
        *last,
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def spots(seed: int, with_signal: np.ndarray, level: float) -> Feeds:
    """Noise [n, 16, 64, 64], with one pixel of `level` in the pictures `with_signal`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(with_signal), 16, 64, 64)).astype(np.float32)
    for index in np.flatnonzero(with_signal):
        row, column = rng.integers(0, 64, 2)
        x[index, :, row, column] = level * rng.uniform(0.9, 1.1, 16)
    return [{"x": x[i : i + 8]} for i in range(0, len(x), 8)]


def sqnr(plain: onnx.ModelProto, made: onnx.ModelProto, data: Feeds) -> float:
    signal, noise = 0.0, 0.0
    sessions = [create_session(model, threads=1) for model in (plain, made)]
    for feed in data:
        a, b = (session.run(None, feed)[0].astype(np.float64) for session in sessions)
        signal, noise = signal + float((a**2).sum()), noise + float(((a - b) ** 2).sum())
    return 10 * np.log10(signal / noise)


@pytest.mark.parametrize("count", [1, 12, 64, 79, 80, 512])
def test_judged_samples_are_apart_where_there_are_enough(count: int) -> None:
    judged, apart = judged_samples(count)
    assert 0 < len(judged) <= 64
    assert len(set(judged)) == len(judged)
    assert set(judged) <= set(range(count))
    assert apart == (count >= 80)
    if apart:
        assert not set(judged) & {int(i) for i in np.linspace(0, count - 1, BIAS_IMAGES)}


def test_where_rare_large_values_carry_the_output_the_default_is_not_behind_minmax() -> None:
    model = network([helper.make_node("GlobalMaxPool", ["b"], ["y"], "top")], 0.0)
    data, others = (spots(seed, np.ones(24, bool), 6.0) for seed in (0, 1))
    made = {name: quantbench.quantize(model, data, calibrator=name, threads=1) for name in (DEFAULT, SAFE, PRIOR)}
    found = {name: sqnr(model, one.for_onnxruntime, others) for name, one in made.items()}
    assert found[PRIOR] < found[SAFE] - 3, "nothing to choose"
    assert found[DEFAULT] > found[SAFE] - 0.1
    judged = made[DEFAULT].judged
    assert judged.taken == SAFE
    assert [each.corrected for each in judged.beside] == [False, True]
    assert not judged.few


def test_where_few_samples_hold_the_output_their_values_count() -> None:
    model = network([helper.make_node("Relu", ["b"], ["y"], "top")], -12.0)
    data, others = (spots(seed, np.arange(32) % 8 == 3, 6.0) for seed in (0, 1))
    made = {name: quantbench.quantize(model, data, calibrator=name, threads=1) for name in (DEFAULT, SAFE, PRIOR)}
    found = {name: sqnr(model, one.for_onnxruntime, others) for name, one in made.items()}
    print(found, made[DEFAULT].judged)
    assert found[PRIOR] < found[SAFE] - 3, "nothing to choose"
    assert found[DEFAULT] > found[SAFE] - 0.1
    judged = made[DEFAULT].judged
    assert (judged.few, judged.searched, judged.samples) == (True, 4, 32)
    assert "mse over the 4 of 32 samples" in judged.in_words() or judged.taken == SAFE


def test_signal_is_told_by_energy() -> None:
    even = np.ones(8)
    assert Signal({"y": even}).holders() == ()
    assert Signal({"y": np.zeros(8)}).holders() == ()
    assert Signal({}).holders() == ()
    few = np.array([0, 5, 0.01, 5, 0, 5, 5, 5, 0, 0, 0, 0])
    assert Signal({"even": np.ones(12), "few": few}).holders() == (1, 3, 5, 6, 7)
    one = np.eye(12)[4]
    assert 4 in Signal({"y": one}).holders()
    assert len(Signal({"y": one}).holders()) == 4  # one sample is no histogram
    outputs = {
        "y": np.ones((3, 2, 2), np.float32) * [[[1]], [[2]], [[0]]],
        "all": np.ones(5),
        "k": np.ones((3, 1), int),
    }
    found = together([energies_of(outputs, 3), energies_of({"y": np.ones((1, 3), np.float16)}, 1)])
    np.testing.assert_array_equal(found.energies["y"], [4, 16, 0, 3])
    assert list(found.energies) == ["y"]
    batches = [{"x": np.arange(8.0).reshape(4, 2), "k": np.zeros(1)}, {"x": np.arange(8.0, 16).reshape(4, 2)}]
    rows = list(rows_of(batches, (1, 3, 6)))
    np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in rows])[:, 0], [2, 6, 12])
    assert rows[0]["k"].shape == (1,)  # does not grow with the batch


@pytest.mark.parametrize("level", [4.0, 40.0, 4000.0])
def test_the_model_that_is_taken_is_the_one_that_was_compared(tmp_path: Path, level: float) -> None:
    model, batches = spiky(tmp_path, level)
    plan = place(view_of(model))
    given = judging(model, plan, batches)
    taken = best_by_outputs(collect(model, batches, plan.tensors, threads=1), given)
    last = taken.judged.beside[-1]
    assert taken.judged.taken == (SAFE if leads(last) else PRIOR)
    # It is the one that a run with this method alone makes.
    alone = quantbench.quantize(model, batches, calibrator=taken.judged.taken, equalize="off", threads=1)
    found = [sqnr(model, for_onnxruntime(one), batches) for one in (taken.made.model, alone.model)]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    safe = quantbench.quantize(model, batches, calibrator=SAFE, equalize="off", threads=1)
    assert found[0] > sqnr(model, for_onnxruntime(safe.model), batches) - 0.6


def test_a_model_of_integer_outputs_gets_mse_and_says_why(tmp_path: Path) -> None:
    model, batches = spiky(tmp_path, 4.0)
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["label"], "top", axis=1, keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    plan = place(view_of(model))
    taken = best_by_outputs(collect(model, batches, plan.tensors, threads=1), judging(model, plan, batches))
    assert taken.judged == Judged(taken=PRIOR, samples=16, searched=16)
    assert "no output could be compared" in taken.judged.in_words()


def test_on_a_trained_transformer_auto_is_not_behind_minmax_on_other_pictures() -> None:
    grey = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
    data = list(feeds(at_most(dataset_source("animal-mnist?split=train", grey), 64), "image", 16))
    others = at_most(dataset_source("animal-mnist?split=test", grey), 512)
    path = MODELS / "vit-animals.onnx"
    made = {name: quantbench.quantize(path, data, calibrator=name, threads=1) for name in ("auto", "minmax")}
    plain = runner(create_session(path, threads=1), 0)
    found = {}
    for name, result in made.items():
        int8 = runner(create_session(result.for_onnxruntime, threads=1), 0)
        found[name] = measures_of(compare_outputs(plain, int8, labelled(others, "image", 64)))["sqnr_db"].value
    assert made["minmax"].judged is None
    assert found["auto"] > found["minmax"] - 0.1


def test_run_json_and_report_hold_what_was_compared(tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "data")
    out = tmp_path / "run"
    record = run(tmp_path, out, calibrator="auto")
    judged = load_run(out).calibration.judged
    assert judged == record.calibration.judged
    assert record.calibration.method == "auto"
    assert record.calibration.described == f"{judged.taken}, chosen by auto"
    (section,) = thresholds.sections(record)
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert len(table.rows) == len(judged.beside) > 0
    # The model that was judged is the one that a run with its ranges alone makes.
    alone = run(tmp_path, tmp_path / "alone", calibrator=judged.taken)
    files = [{o.path: o.sha256 for o in r.stages["quantize"].outputs} for r in (record, alone)]
    assert files[0] == files[1]
    assert not (out / ".quantbench" / "judged").exists()
    again = run(tmp_path, out, calibrator="auto")
    assert again.stages["calibrate"].provenance == record.stages["calibrate"].provenance


def test_the_report_tells_of_few_samples_with_signal(tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "data")
    record = run(tmp_path, tmp_path / "run", calibrator="auto")
    few = record.calibration.judged.model_copy(update={"samples": 64, "searched": 8})
    told = record.model_copy(update={"calibration": record.calibration.model_copy(update={"judged": few})})
    (section,) = thresholds.sections(told)
    text = next(block for block in section.blocks if isinstance(block, Text))
    assert "8 of 64 calibration samples hold nearly all energy" in str(text)


def test_auto_is_the_default_and_no_threshold_of_one_tensor() -> None:
    assert DEFAULT == "auto"
    assert PtqRequest(ModelChoice("m.onnx")).calibrator == Recipe().calibration.calibrator == "auto"
    with pytest.raises(QuantbenchError, match="here name one of minmax"):
        choose("auto").threshold(None)


def energies(noise: list[float], signal: list[float] | None = None) -> dict[str, np.ndarray]:
    return {"y": np.stack([np.asarray(signal or [100.0] * len(noise)), np.asarray(noise)])}


def test_minmax_leads_beyond_chance_or_not_at_all() -> None:
    mse = energies([1.0, 1.1, 0.9, 1.0])
    assert leads(beside(mse, energies([0.5, 0.6, 0.4, 0.55]), corrected=True))
    assert not leads(beside(mse, energies([1.2, 1.3, 1.1, 1.2]), corrected=True))
    assert not leads(beside(mse, energies([0.2, 1.3, 1.1, 1.2]), corrected=True))  # one sample makes the lead
    # By the mean in dB mse leads, by the sum of noise minmax: one bad sample, which the next ones need not have.
    assert not leads(beside(energies([1.0, 1.0, 1.0, 9.0]), energies([1.5, 1.6, 1.5, 2.0]), corrected=True))
    # Samples count by their energy.
    signal = [1.0, 100.0, 100.0, 100.0, 1.0]
    prior, safe = energies([0.1, 2.0, 2.2, 1.9, 0.1], signal), energies([0.2, 1.0, 1.0, 1.0, 0.2], signal)
    assert leads(beside(prior, safe, corrected=True))
    # Of an only sample with energy nobody knows.
    only = [0.0, 100.0, 0.0]
    found = beside(energies([0.0, 2.0, 0.0], only), energies([0.0, 1.0, 0.0], only), corrected=True)
    assert found.lead_db == pytest.approx(10 * np.log10(2))
    assert not leads(found)


def test_the_output_that_comes_out_worst_is_compared() -> None:
    prior = {"good": energies([0.1] * 4)["y"], "bad": energies([2.0, 2.1, 2.2, 2.0])["y"]}
    safe = {"good": energies([9.0] * 4)["y"], "bad": energies([1.0, 1.1, 1.0, 1.1])["y"]}
    assert leads(beside(prior, safe, corrected=False))
    equal = {"y": energies([0.0] * 4)["y"]}
    assert beside(equal, equal, corrected=False) is None


def test_words_say_how_minmax_came_out() -> None:
    behind = Beside(samples=16, corrected=False, mse_db=30.0, minmax_db=29.0, lead_db=-1.23, error_db=0.4)
    words = Judged(taken="mse", samples=64, searched=64, beside=(behind,)).in_words()
    assert words == "mse; minmax is 1.2 dB behind on 16 samples"
    chance = behind.model_copy(update={"lead_db": 0.5})
    assert Judged(taken="mse", samples=64, searched=8, beside=(chance,)).in_words() == (
        "mse over the 8 of 64 samples that hold the output's energy; minmax is 0.5 dB ahead on 16 samples, no more "
        "than chance"
    )
