"""Ordinary models and data at the edges: taken as they are, or refused at once in the right words."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.sweep import histogram_of
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.qdq_or_not import refuse_quantized
from quantbench.data.model_input import fitting_preprocess, image_input
from quantbench.errors import QuantbenchError
from quantbench.ptq.calibrator_choice import choose
from quantbench.ptq.range_warnings import range_warnings


def model(
    shape: list[Any], kind: int = onnx.TensorProto.FLOAT, op: str = "Identity", notes: dict[str, str] | None = None
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], name="n")],
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    made = helper.make_model(graph)
    helper.set_model_props(made, notes or {})
    return made


@pytest.mark.parametrize("preset", [None, "yolo", "imagenet", "efficientnet-lite"])
def test_uint8_models_take_raw_pixels_of_every_preset(preset: str | None) -> None:
    """The user set neither scale nor mean, so nobody may be told to leave them alone."""
    image = image_input(model([1, 3, 64, 96], onnx.TensorProto.UINT8), "m")
    steps, _ = fitting_preprocess(preset, image)
    assert (steps.dtype, steps.scale, steps.mean, steps.std) == ("uint8", 1.0, (0.0,), (1.0,))
    assert steps.shape == (3, 64, 96)


@pytest.mark.parametrize("shape", [["n", "h", "w", 3], [1, None, None, 3], ["n", 64, 96, 1]])
def test_channels_last_with_open_sizes(shape: list[Any]) -> None:
    image = image_input(model(shape), "m")
    assert (image.layout, image.channels) == ("NHWC", shape[3])
    assert image_input(model(["n", "c", "h", "w"]), "m").layout == "NCHW"


def test_a_yolo_is_known_by_its_metadata_or_its_anchors() -> None:
    notes = {"stride": "32", "names": "{0: 'a'}", "imgsz": "[320, 416]", "task": "detect"}
    steps, origin = fitting_preprocess(None, image_input(model(["n", 3, "h", "w"], notes=notes), "m"))
    assert (steps.letterbox, steps.scale) == ((320, 416), 1 / 255)
    assert "yolo" in origin
    square = notes | {"task": "classify", "imgsz": "320"}
    steps, _ = fitting_preprocess(None, image_input(model(["n", 3, "h", "w"], notes=square), "m"))
    assert (steps.crop, steps.mean, steps.scale) == ((320, 320), (0.0,), 1 / 255)
    raw = model([1, 3, 64, 64])
    raw.graph.output[0].type.tensor_type.shape.CopyFrom(helper.make_tensor_type_proto(1, [1, 14, 84]).tensor_type.shape)
    assert fitting_preprocess(None, image_input(raw, "m"))[0].letterbox == (64, 64)
    # A declaration counts before what the model says.
    declared, origin = fitting_preprocess("imagenet", image_input(raw, "m"))
    assert (declared.crop, origin) == ((64, 64), "preset imagenet")


@pytest.mark.parametrize(
    ("op", "words"),
    [("DynamicQuantizeLinear", "dynamically quantized"), ("ConvInteger", "dynamically quantized"),
     ("QLinearConv", "QOperator form"), ("QuantizeLinear", "already holds 1 Q/DQ nodes")],
)  # fmt: skip
def test_quantized_models_are_refused_in_their_own_words(op: str, words: str) -> None:
    with pytest.raises(QuantbenchError, match=words):
        refuse_quantized(model([1, 3, 8, 8], op=op), "m")


def test_a_misspelt_calibrator() -> None:
    with pytest.raises(QuantbenchError, match=r"did you mean entropy\? there are minmax, .*mse"):
        choose("entrophy")
    assert choose("mse").method == "mse"


@pytest.mark.parametrize(("values", "blank"), [([0.5], True), ([0.0], True), (list(np.linspace(-1, 1, 50)), False)])
def test_blank_pictures_are_told(values: list[float], blank: bool) -> None:
    array = np.resize(np.asarray(values, np.float32), 3000)
    ranges = find_ranges({"x": histogram_of(array)}, "minmax", threshold_method("minmax"))
    assert any("blank" in warning for warning in range_warnings(ranges)) is blank
