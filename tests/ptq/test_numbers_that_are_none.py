"""NaN, infinity, constant and dead tensors: told by name, and never a scale or a figure that is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.ptq.small_run import write_data, write_model


def changed(folder: Path, **weights: float) -> Path:
    """The small model with some weights all of one value."""
    model = onnx.load(write_model(folder / "m.onnx"))
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            shape = tuple(tensor.dims)
            tensor.CopyFrom(numpy_helper.from_array(np.full(shape, weights[tensor.name], np.float32), tensor.name))
    path = folder / "changed.onnx"
    onnx.save(model, path)
    return path


def ptq(cli: Any, folder: Path, model: Path, *more: object) -> tuple[int, str]:
    write_data(folder / "data")
    code, _, error = cli("ptq", model, "--calib-data", folder / "data", "--out", folder / "run", "--no-compile",
                         "--threads", 1, *more)  # fmt: skip
    return code, error


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(cli: Any, tmp_path: Path, value: float) -> None:
    code, error = ptq(cli, tmp_path, changed(tmp_path, w2=value))
    assert code == 2
    assert "weight w2 holds" in error


def test_the_first_tensor_that_overflows_is_named(cli: Any, tmp_path: Path) -> None:
    """conv1 and conv2 overflow; the classifier's input, which wants a range, does so because they do."""
    code, error = ptq(cli, tmp_path, changed(tmp_path, w1=3e37), "--calibrator", "minmax")
    assert code == 2
    line = error.splitlines()[-1]
    assert "tensor b reaches infinity" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("calibrator", ["minmax", "mse", "entropy", "percentile"])
def test_a_dead_tensor_gets_a_scale_that_is_a_number_and_a_note(cli: Any, tmp_path: Path, calibrator: str) -> None:
    code, error = ptq(cli, tmp_path, changed(tmp_path, w1=0.0), "--calibrator", calibrator)
    assert code == 0, error
    assert "was zero in every calibration image" in error
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "b was zero in every calibration image" in record["calibration"]["warnings"]
    model = onnx.load(tmp_path / "run" / "model.qdq.onnx")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scales = [constants[node.input[1]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert scales
    assert all(np.isfinite(scale).all() and (scale > 0).all() for scale in scales)


@pytest.mark.parametrize("calibrator", ["auto", "minmax"])
def test_an_output_that_is_no_number_is_not_measured(cli: Any, tmp_path: Path, calibrator: str) -> None:
    """Only the float classifier overflows, behind all that is quantized."""
    code, error = ptq(cli, tmp_path, changed(tmp_path, w3=3e38), "--calibrator", calibrator)
    assert code == 0, error
    (part,) = json.loads((tmp_path / "run" / "run.json").read_text())["evaluation"]["parts"]
    assert "infinity" in part["sqnr"]["reason"]
