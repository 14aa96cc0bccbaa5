"""What a run says on the terminal before the first image, and where the error of a layer is taken."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from quantbench.evaluate.layers import ends, layer_errors
from tests.ptq.small_run import write_data, write_model


def test_model_preprocessing_calibration_and_evaluation_are_told_first(cli, small_model: Path, pictures: Path) -> None:
    """Guessed preprocessing, few images, and that evaluation is on the calibration images: not in the report alone."""
    _, _, error = cli("ptq", small_model, "--calib-dir", pictures, "--out", pictures.parent / "told", "--no-compile",
                      "--calibrator", "minmax")  # fmt: skip
    lines = error.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("Calibrating "))
    told = "\n".join(lines[:first])
    assert f"{small_model}: input " in told
    assert "weighted layers get Q/DQ" in told
    assert "Preprocessing: resize the shorter side" in told
    assert "preset imagenet, by default: declare with --preprocess" in told
    assert "Calibration: minmax on 12 images" in told
    assert "warning: 12 calibration samples see few of the values" in told
    assert "Evaluation: 12 images, the calibration data themselves (name others with --eval-data)" in told


def test_the_error_of_a_layer_is_taken_behind_its_activation(tmp_path: Path) -> None:
    """A Relu behind the conv takes the error of the values away that nobody reads."""
    model = onnx.load(str(write_model(tmp_path / "m.onnx")))
    assert ends(model)["conv1"] == ("b", "Relu")
    noisy = onnx.ModelProto.FromString(model.SerializeToString())
    relu = next(node for node in noisy.graph.node if node.name == "relu1")
    # Only what is negative before the Relu is made wrong.
    noisy.graph.node.insert(1, helper.make_node("Min", ["a", "zero"], ["low"], "low"))
    noisy.graph.node.insert(2, helper.make_node("Add", ["a", "low"], ["wrong"], "wrong"))
    noisy.graph.initializer.append(helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]))
    relu.input[0] = "wrong"
    feed = {"x": np.load(write_data(tmp_path / "d") / "0.npy")}
    found = {error.node: error for error in layer_errors(model, noisy, ["conv1"], [feed])}
    assert found["conv1"].behind == "Relu"
    assert found["conv1"].sqnr_db is None  # nothing differs there
