"""What is measured while searching is what `quantbench ptq` makes of the same settings, to the byte."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantbench
from quantbench.compilation.request import CompileRequest
from quantbench.decide.regions import grouped, part_of
from quantbench.decide.sensitivity import measure_sensitivity
from quantbench.decide.workbench import Workbench
from quantbench.demo import resnet18
from quantbench.folding.options import FoldOptions
from quantbench.ort import create_session
from quantbench.progress import Progress
from quantbench.ptq.pipeline import run_ptq
from quantbench.ptq.prepare import prepare
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest
from quantbench.qdq.affine import affine_activations
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.lowest import note_lowest
from quantbench.qdq.options import PlacementOptions, WeightOptions
from quantbench.records.search import Settings

CASES = [
    Settings("minmax"),
    Settings("mse", (), False),
    Settings("mse", residual_float=True, adaptive=True),
    Settings("minmax", best_placement=True),
    Settings("mse", equalize=True),
]


@pytest.mark.parametrize("settings", CASES)
def test_a_variant_is_the_model_of_the_run(tmp_path: Path, settings: Settings) -> None:
    onnx.save(resnet18.build(width=8, size=32, classes=10), tmp_path / "m.onnx")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32))
    # So many dB that the guard keeps every skip in float: what a search measures must be guarded alike.
    placement = PlacementOptions(residual_db=200.0, residual=not settings.residual_float)
    request = PtqRequest(
        ModelChoice(str(tmp_path / "m.onnx")), DataChoice(tmp_path / "images.npy"), calibrator=settings.calibrator,
        bias_correction=settings.bias_correction, placement=placement, latency=False, compile=CompileRequest("none"),
        best_placement=settings.best_placement, weights=WeightOptions(adaptive=settings.adaptive),
        fold=FoldOptions("on" if settings.equalize else "off"), threads=1,
        out=tmp_path / "run",
    )  # fmt: skip
    _, record = run_ptq(request, Progress("none"))
    assert "residual" not in record.placement.rules
    asked = replace(request, fold=FoldOptions(), placement=replace(placement, residual=True), best_placement=False)
    bench = Workbench(prepare(asked), asked.placement, Progress("none"), 1)
    bench.ranges(settings.calibrator)  # of the rules; a plan that quantizes more has the rest counted
    made, written = bench.quantized(settings), onnx.load(str(tmp_path / "run" / "model.qdq.onnx"))
    assert list(made.graph.node) == list(written.graph.node)
    assert list(made.graph.initializer) == list(written.graph.initializer)


def test_thresholds_for_onnxruntime_are_those_of_the_run(tmp_path: Path) -> None:
    """Searched for the levels that its kernels have, in a run, on a workbench and in Python alike."""
    onnx.save(resnet18.build(width=8, size=32, classes=10), tmp_path / "m.onnx")
    images = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    placement = PlacementOptions(for_onnxruntime=True)
    request = PtqRequest(
        ModelChoice(str(tmp_path / "m.onnx")), DataChoice(tmp_path / "images.npy"), calibrator="mse",
        placement=placement, latency=False, compile=CompileRequest("none"), threads=1, out=tmp_path / "run",
    )  # fmt: skip
    run_ptq(request, Progress("none"))
    written = onnx.load(str(tmp_path / "run" / "model.qdq.onnx"))
    bench = Workbench(prepare(request), placement, Progress("none"), 1)
    assert list(bench.quantized(Settings("mse")).graph.initializer) == list(written.graph.initializer)
    made = quantbench.quantize(
        tmp_path / "m.onnx", [{"image": images}], calibrator="mse", placement=placement, equalize="off", smooth="off",
        threads=1,
    )  # fmt: skip
    assert list(made.model.graph.initializer) == list(written.graph.initializer)

    # And what a region costs is that of the integers that run there; before, of symmetric ones.
    found = measure_sensitivity(bench, Settings("mse"), images=4)
    plan, ranges = bench.plan(Settings("mse")), bench.ranges("mse")
    plain = create_session(bench.model, threads=1).run(None, {"image": images})[0]
    noises = []
    # But for the Adds, whose least values hang a little on what else is quantized.
    for cost in [each for each in found.regions if each.weighted and "Add" not in each.name][:6]:
        alone = insert_qdq(bench.model, part_of(plan, set(cost.nodes).__contains__), grouped(plan, ranges))
        note_lowest(alone, lambda: [{"image": images}], threads=1)
        runs = [create_session(one, threads=1, fuse_qdq=False) for one in (affine_activations(alone), alone)]
        errors = [run.run(None, {"image": images})[0] - plain for run in runs]
        affine, symmetric = (float((error**2).sum() / (plain**2).sum()) for error in errors)
        assert cost.noise == pytest.approx(affine, rel=0.01)
        noises.append((affine, symmetric))
    assert sum(symmetric > 1.5 * affine for affine, symmetric in noises) >= 3
