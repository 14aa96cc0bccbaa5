"""`build --calib-dir` quantizes as `ptq` does: the same scales, the same corrected biases."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantbench.calibrator import Calibrator
from quantbench.core.quantize import quantize_with
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model
from quantbench.qdq.options import PlacementOptions
from tests.ptq.small_run import run, write_data, write_model


class MinMax(Calibrator):
    method = "minmax"


@pytest.fixture
def batches(tmp_path: Path) -> list[dict[str, np.ndarray]]:
    folder = write_data(tmp_path / "data")
    return [{"x": np.load(file)} for file in sorted(folder.iterdir())]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_a_calibrator_gives_what_ptq_gives(tmp_path: Path, batches: list[dict[str, np.ndarray]]) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = load_model(path)
    found = quantize_with(model, MinMax(lambda: batches, 4))
    run(tmp_path, tmp_path / "run")
    by_ptq = constants(onnx.load(str(tmp_path / "run" / "model.qdq.onnx")))
    mine = constants(found.model)
    assert mine.keys() == by_ptq.keys()
    for name, value in by_ptq.items():
        np.testing.assert_allclose(mine[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_ranges_alone_correct_nothing_and_no_layer_is_an_error(
    tmp_path: Path, batches: list[dict[str, np.ndarray]]
) -> None:
    model = load_model(write_model(tmp_path / "m.onnx"))
    calibrated = quantize_with(model, MinMax(lambda: batches, 4))
    plain = quantize_with(model, calibrated.ranges)
    assert plain.plan == calibrated.plan
    assert len(plain.model.graph.node) <= len(calibrated.model.graph.node)
    with pytest.raises(QuantbenchError, match="no layer can be quantized"):
        quantize_with(model, calibrated.ranges, PlacementOptions(keep_float=("conv*", "fc")))
