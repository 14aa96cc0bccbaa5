"""What is measured while searching is what `quantbench ptq` makes of the same settings, to the byte."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from quantbench.compilation.request import CompileRequest
from quantbench.decide.workbench import Workbench
from quantbench.demo import resnet18
from quantbench.progress import Progress
from quantbench.ptq.pipeline import run_ptq
from quantbench.ptq.prepare import prepare
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest
from quantbench.qdq.options import PlacementOptions
from quantbench.records.search import Settings


@pytest.mark.parametrize("settings", [Settings("minmax"), Settings("mse", (), False)])
def test_a_variant_is_the_model_of_the_run(tmp_path: Path, settings: Settings) -> None:
    onnx.save(resnet18.build(width=8, size=32, classes=10), tmp_path / "m.onnx")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32))
    # So many dB that the guard keeps every skip in float: what a search measures must be guarded alike.
    request = PtqRequest(
        ModelChoice(str(tmp_path / "m.onnx")), DataChoice(tmp_path / "images.npy"), calibrator=settings.calibrator,
        bias_correction=settings.bias_correction, placement=PlacementOptions(residual_db=200.0), latency=False,
        compile=CompileRequest("none"), threads=1, out=tmp_path / "run",
    )  # fmt: skip
    _, record = run_ptq(request, Progress("none"))
    assert "residual" not in record.placement.rules
    bench = Workbench(prepare(request), request.placement, Progress("none"), 1)
    made, written = bench.quantized(settings), onnx.load(str(tmp_path / "run" / "model.qdq.onnx"))
    assert list(made.graph.node) == list(written.graph.node)
    assert list(made.graph.initializer) == list(written.graph.initializer)
