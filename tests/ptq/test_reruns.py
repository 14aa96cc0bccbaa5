"""A run folder after all that can happen to it between two calls: what it says is what it holds."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantbench.provenance as provenance
import quantbench.ptq.prepare as prepare
from quantbench.calibration.store import load_histograms, save_histograms
from quantbench.errors import QuantbenchError
from quantbench.graph.view import GraphView
from quantbench.qdq.options import PlacementOptions, WeightOptions
from quantbench.qdq.place import place
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Text
from quantbench.report.sections import rounding
from quantbench.run_folder import Identity, RunFolder
from tests.ptq.small_run import OWN, holds, outputs, run, write_data

pytestmark = pytest.mark.usefixtures("clock")


def ended(record: PtqRun) -> dict[str, tuple[str, float]]:
    """When each stage ran: equal where none was done anew."""
    return {name: (stage.provenance.time, stage.provenance.seconds) for name, stage in record.stages.items()}


def keys(record: PtqRun) -> dict[str, str]:
    return {name: stage.key for name, stage in record.stages.items()}


def amax(out: Path, tensor: str = "x") -> float:
    import json

    return float(json.loads((out / "ranges.json").read_text())["tensors"][tensor]["amax"])


# Fault 1: the key of the histograms lacks the calibrator and what it feeds.


def test_refresh_with_a_calibrator_that_brings_its_own_data(home: Path) -> None:
    out, own = home / "run", home / "own.py"
    assert amax(out) < 10
    own.write_text(OWN.format(value=1000.0))
    run(home, out, calibrator=f"{own}:Own", cache="refresh")
    assert amax(out) == 1000.0
    # Another of the same name, and the same with another content.
    other = home / "other"
    other.mkdir()
    (other / "own.py").write_text(OWN.format(value=500.0))
    run(home, out, calibrator=f"{other / 'own.py'}:Own", cache="refresh")
    assert amax(out) == 500.0
    own.write_text(OWN.format(value=250.0))
    with pytest.raises(QuantbenchError, match="belongs to another method"):
        run(home, out, calibrator=f"{own}:Own")
    holds(out)
    run(home, out, calibrator=f"{own}:Own", cache="refresh")
    assert amax(out) == 250.0


def test_refresh_counts_anew_what_was_counted_with_the_same_key(home: Path) -> None:
    out = home / "run"
    before, path = outputs(out), out / ".quantbench" / "histograms.npz"
    key = str(np.load(path)["key"])
    known, images = load_histograms(path, key)
    save_histograms(path, {name: replace(h, amax=2 * h.amax) for name, h in known.items()}, images=images, key=key)
    run(home, out, cache="refresh")
    assert outputs(out) == before


# Fault 2: a cache that is taken as it is poisons the next plain run.


def test_a_changed_cache_is_taken_only_on_request_and_never_passes_for_calibrated(home: Path) -> None:
    out = home / "run"
    first = holds(out)
    cache = out / "calibration.cache"
    lines = cache.read_text().splitlines()
    cache.write_text("\n".join([lines[0], *(f"{line.split(': ')[0]}: 3f800000" for line in lines[1:])]) + "\n")
    with pytest.raises(QuantbenchError, match="was changed since it was written; --reuse-cache"):
        run(home, out)
    assert amax(out) != 127.0
    taken = run(home, out, cache="reuse")
    assert amax(out) == 127.0
    assert (taken.calibration.method, taken.calibration.source) == ("cache calibration.cache", "calibration.cache")
    with pytest.raises(QuantbenchError, match="was changed since it was written"):
        run(home, out)
    again = run(home, out, cache="refresh")
    assert (again.calibration.method, again.calibration.source) == ("minmax", "images")
    assert [o.sha256 for o in again.stages["calibrate"].outputs] == [
        o.sha256 for o in first.stages["calibrate"].outputs
    ]


# Fault 3: keys without the Plan and without versions.


def test_a_changed_rule_changes_model_and_record_together(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = home / "run"
    assert set(holds(out).placement.quantized) == {"conv1", "conv2"}

    def other(view: GraphView, options: PlacementOptions) -> Any:
        return place(view, PlacementOptions(keep_float=("conv1",)))

    monkeypatch.setattr(prepare, "place", other)
    assert set(run(home, out).placement.quantized) == {"conv2"}  # `run` holds the model against it


@pytest.mark.parametrize("package", ["quantbench", "onnxruntime", "onnx-graphsurgeon"])
def test_another_version_redoes_what_it_can_change(home: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    out = home / "run"
    before = holds(out)
    real = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: {**real, package: "99"})
    after = run(home, out)
    changed = {name for name in before.stages if keys(before)[name] != keys(after)[name]}
    assert changed == ({"quantize"} if package == "onnx-graphsurgeon" else {"calibrate", "quantize", "evaluate"})
    for name in changed:
        assert after.stages[name].provenance.versions[package] == "99"


# Fault 4: old measurements get a new date, machine and version.


def test_what_was_measured_keeps_its_machine_and_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = home / "run"
    before = holds(out)
    monkeypatch.setattr(provenance, "_processor", lambda: "Another CPU")
    monkeypatch.setattr(provenance, "utc", lambda: "2099-01-01T00:00:00+00:00")
    after = run(home, out)
    assert after.provenance.machine.processor == "Another CPU"
    assert {name: s.provenance for name, s in after.stages.items()} == {
        name: s.provenance for name, s in before.stages.items()
    }


def test_half_a_calibration_of_other_data_is_not_gone_on_with(home: Path) -> None:
    out, other = home / "run", home / "other"
    other.mkdir()
    shutil.copy(home / "m.onnx", other / "m.onnx")
    write_data(other / "data", seed=50)
    run(other, home / "else")
    shutil.copy(out / ".quantbench" / "histograms.npz", home / "kept.npz")
    shutil.rmtree(out)
    run(other, out)
    shutil.copy(home / "kept.npz", out / ".quantbench" / "histograms.npz")
    (out / "ranges.json").unlink()
    run(other, out)
    assert outputs(out) == outputs(home / "else")


# Fault 7: --overwrite, and the same model by another path.


def test_overwrite_begins_anew_and_spares_what_others_put_there(home: Path) -> None:
    out = home / "run"
    before = holds(out)
    (out / "notes.txt").write_text("mine")
    after = run(home, out, overwrite=True)
    assert all(after.stages[name].provenance.time >= s.provenance.time for name, s in before.stages.items())
    assert ended(after) != ended(before)
    assert (out / "notes.txt").read_text() == "mine"


def test_the_same_model_by_another_path_is_the_same_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = home / "run"
    before = holds(out)
    monkeypatch.chdir(home)
    assert ended(run(home, out, model="m.onnx")) == ended(before)


def test_a_moved_run_and_moved_data_are_gone_on_with(home: Path) -> None:
    before = holds(home / "run")
    there = home / "there"
    there.mkdir()
    for name in ("m.onnx", "data", "run"):
        shutil.move(home / name, there / name)
    assert ended(run(there, there / "run")) == ended(before)


@pytest.mark.parametrize("name", ["training/last.pt", ".quantbench/histograms.npz", ""])
def test_a_fault_of_the_input_spares_what_took_time(tmp_path: Path, name: str) -> None:
    out = tmp_path / "made"

    def work() -> None:
        with RunFolder(out).held(Identity("qat-export", "m", "0")):
            if name:
                (out / name).parent.mkdir(exist_ok=True)
                (out / name).write_bytes(b"an hour's work")
            raise QuantbenchError("late")

    with pytest.raises(QuantbenchError, match="late"):
        work()
    assert out.exists() == bool(name)
    assert not name or (out / name).exists()


# Outputs that are damaged are made anew, not kept.


@pytest.mark.parametrize("name", ["ranges.json", "model.qdq.onnx", "model.ort.onnx", "evaluation.json"])
def test_a_damaged_output_is_made_anew(home: Path, name: str) -> None:
    out = home / "run"
    whole = outputs(out)
    for damaged in (b"", whole[name][: len(whole[name]) // 2], None):
        (out / name).unlink()
        if damaged is not None:
            (out / name).write_bytes(damaged)
        run(home, out)
        assert outputs(out) == whole


def test_damaged_histograms_are_counted_anew(home: Path) -> None:
    out = home / "run"
    whole, histograms = outputs(out), out / ".quantbench" / "histograms.npz"
    content = histograms.read_bytes()
    for damaged in (b"", content[: len(content) // 2], content[:60] + bytes(40) + content[100:]):
        histograms.write_bytes(damaged)
        (out / "ranges.json").unlink()
        run(home, out)
        assert outputs(out) == whole


def test_a_damaged_record_of_stages_means_doing_all_anew(home: Path) -> None:
    out = home / "run"
    whole = outputs(out)
    for text in ("", "{", '{"stages": {"calibrate": 1}}'):
        (out / ".quantbench" / "stages.json").write_text(text)
        run(home, out)
        assert outputs(out) == whole
    onnx.checker.check_model(str(out / "model.qdq.onnx"))


def test_a_run_with_full_effort_goes_on_ends_the_same_and_says_what_it_rounded(home: Path) -> None:
    out = home / "run"
    plain = run(home, out)
    assert plain.calibration.rounding is None
    assert not (out / "rounding.json").exists()
    full = WeightOptions("mse", adaptive=True, bias_sweeps=4)
    record = run(home, out, weights=full)
    found = record.calibration.rounding
    assert found is not None
    assert {layer.node for layer in found.layers} | set(found.left_out) <= set(record.placement.quantized)
    assert found.layers
    assert record.calibration.weight_scales == "mse"
    assert keys(record)["calibrate"] == keys(plain)["calibrate"]
    assert len({keys(run(home, out, weights=each))["quantize"] for each in options_of_weights()}) == 4
    assert ended(run(home, out, weights=full)) != ended(record)
    again = run(home, out, weights=full)
    assert ended(run(home, out, weights=full)) == ended(again)
    # What is made in another folder, or without biases corrected, from the same.
    fresh = run(home, home / "fresh", weights=full)
    assert fresh.calibration == again.calibration
    assert outputs(home / "fresh")["model.qdq.onnx"] == outputs(out)["model.qdq.onnx"]
    bare = run(home, home / "bare", weights=full, bias_correction=False)
    assert bare.calibration.rounding == again.calibration.rounding
    # Judged by the outputs, the result is one of the two.
    judged = run(home, out, weights=replace(full, judged=True)).calibration.rounding
    assert judged is not None
    assert judged.layers == found.layers
    assert judged.judged is not None
    assert judged.judged.nearest is not None
    assert judged.judged.adaptive is not None
    ours, plain_db = judged.judged.adaptive, judged.judged.nearest
    assert judged.judged.taken == (ours.sqnr > plain_db.sqnr and ours.norms > plain_db.norms)
    assert ("taken: " if judged.judged.taken else "left: ") in judged.in_words()
    kept = full if judged.judged.taken else WeightOptions("mse")
    assert outputs(out)["model.qdq.onnx"] == outputs(run_in(home, weights=kept))["model.qdq.onnx"]
    shown = "".join(block.text for s in rounding.sections(again) for block in s.blocks if isinstance(block, Text))
    assert found.layers[0].node in str(rounding.sections(again))
    assert "arXiv:2004.10568" in shown
    assert rounding.sections(plain) == ()


def run_in(home: Path, **more: Any) -> Path:
    run(home, home / "other", **more)
    return home / "other"


def options_of_weights() -> tuple[WeightOptions, ...]:
    plain = WeightOptions()
    return plain, replace(plain, scales="mse"), replace(plain, adaptive=True), replace(plain, bias_sweeps=4)
