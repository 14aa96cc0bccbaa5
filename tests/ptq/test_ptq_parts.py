"""Small parts of ptq: warnings, preprocessing that fits, recipes, compiler figures."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.compilation.traffic import compile_summary
from quantbench.data.model_input import ImageInput, fitting_preprocess
from quantbench.errors import QuantbenchError
from quantbench.layers.layer import Layer, LayerTensor
from quantbench.progress import Progress
from quantbench.ptq.calibrate import Pass, calibrate
from quantbench.ptq.range_warnings import range_warnings
from quantbench.recipe import Recipe, load_recipe
from quantbench.records.compiled import TensorBytes
from quantbench.shipped import shipped_names


def test_warnings_name_what_is_clipped_and_what_is_dead() -> None:
    ranges = Ranges(
        {
            "fine": TensorRange(1.0, "entropy", {"share_clipped": 0.0001, "observed_max": 1.5}),
            "cut": TensorRange(0.2, "entropy", {"share_clipped": 0.12, "observed_max": 1.0}),
            "dead": TensorRange(0.0, "entropy", {"share_clipped": 0.0, "observed_max": 0.0}),
        }
    )
    dead, cut = range_warnings(ranges)
    assert dead == "dead was zero in every calibration image"
    assert cut.startswith("entropy clips 12.0 % of cut (threshold 0.20 of its maximum)")
    assert cut.endswith("try --calibrator mse or minmax")


def test_the_method_that_clips_is_no_way_out_of_it() -> None:
    (cut,) = range_warnings(Ranges({"cut": TensorRange(0.2, "mse", {"share_clipped": 0.12, "observed_max": 1.0})}))
    assert cut.endswith("--calibrator minmax clips nothing")


def test_no_warning_of_what_hardly_moves_or_nothing_quantizes() -> None:
    """A picture's white, 1 % over the threshold, was warned of, and an output of the network that stays float."""
    ranges = Ranges({
        "white": TensorRange(0.99, "mse", {"share_clipped": 0.035, "observed_max": 1.0}),
        "output": TensorRange(0.2, "mse", {"share_clipped": 0.12, "observed_max": 1.0}),
    })  # fmt: skip
    assert range_warnings(ranges, ("white",)) == []
    assert len(range_warnings(ranges)) == 1


def image(**changes: object) -> ImageInput:
    facts: dict = {"name": "x", "layout": "NCHW", "channels": 3, "height": 224, "width": 224, "batch": 0}
    return ImageInput(**{**facts, "dtype": "float32", **changes})


def test_presets_fit_the_model() -> None:
    chosen, origin = fitting_preprocess(None, image(height=64, width=64))
    assert (chosen.crop, chosen.shortest) == ((64, 64), 73)
    assert "by default" in origin
    chosen, origin = fitting_preprocess("yolo", image(height=320, width=320, layout="NHWC"))
    assert chosen.letterbox == (320, 320)
    assert chosen.layout == "NHWC"
    assert origin == "preset yolo"
    chosen, _ = fitting_preprocess("imagenet", image(channels=1))
    assert chosen.channels == "GRAY"
    assert len(chosen.mean) == 1


def test_a_declaration_that_does_not_fit_is_refused() -> None:
    with pytest.raises(QuantbenchError, match=r"yields \[3, 100, 100\], the model's input 'x' takes \[3, 224, 224\]"):
        fitting_preprocess({"crop": 100}, image())
    with pytest.raises(QuantbenchError, match="no preprocessing preset 'imgnet'"):
        fitting_preprocess("imgnet", image())


def test_every_shipped_recipe_is_valid() -> None:
    recipes = shipped_names("recipes", ".yaml")
    assert {"demo", "resnet18", "yolov8"} <= set(recipes)
    for path in (recipes["demo"], recipes["resnet18"], recipes["yolov8"]):
        assert load_recipe(path).description


def test_recipe_changes_from_the_command_line() -> None:
    changed = Recipe().merged({"data.calib_dir": Path("imgs"), "threads": 2, "data.max_bad": None})
    assert changed.data.calib_dir == Path("imgs")
    assert changed.threads == 2
    with pytest.raises(QuantbenchError, match=r"data\.max_images"):
        Recipe().merged({"data.max_images": 0})


def tensor(name: str, dtype: str, count: int = 100) -> LayerTensor:
    return LayerTensor(name, dtype, dims=(count,))


def test_compiler_figures_by_hand() -> None:
    layers = [
        Layer("q", "kgen", (tensor("x", "FP32"),), (tensor("xq", "INT8"),)),
        Layer("a", "correlation", (tensor("xq", "INT8"),), (tensor("y", "FP32"),), (tensor("w", "INT8", 50),), ("A",)),
        Layer("r", "kgen", (tensor("y", "FP32"),), (tensor("yq", "INT8"),)),
        Layer("b", "correlation", (tensor("yq", "INT8"),), (tensor("z", "FP16"),), (), ("B",)),
        Layer("c", "gemm", (tensor("z", "FP16"),), (tensor("out", "FP16"),), (), ("C",)),
    ]
    found = compile_summary(layers, ["A", "B"], ["A", "B", "C"])
    assert found.weighted_int8 == 2
    assert found.not_int8 == ("C",)
    assert found.quantized_but_float == ()
    assert found.float_between == (TensorBytes(tensor="y", bytes=400),)
    assert [c.name for c in found.conversions] == ["q", "r"]
    assert found.traffic_bytes == 500 + 550 + 500 + 300 + 400


def masked(channels: int = 2) -> onnx.ModelProto:
    """A conv, and scores to which a mask of -inf is added that nothing quantizes."""
    weight = numpy_helper.from_array(np.full((channels, 1, 1, 1), 0.5, np.float32), "w")
    mask = numpy_helper.from_array(np.array([0, -np.inf], np.float32), "mask")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Add", ["c", "mask"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["y"], axis=-1),
    ]
    shape = ["n", 1, 2, 2]
    graph = helper.make_graph(
        nodes, "masked", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", channels, 2, 2])], [weight, mask],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_model_with_a_mask_of_infinity_is_quantized(tmp_path: Path, cli: Any) -> None:
    """From its file on: the mask is an initializer, as exporters of attention write it."""
    model = masked(channels=8)
    onnx.save(model, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(8, 1, 2, 2)).astype(np.float32))
    code, _, error = cli("ptq", tmp_path / "m.onnx", "--calib-data", tmp_path / "x.npy", "--out", tmp_path / "run",
                         "--no-compile")  # fmt: skip
    assert code == 0, error


def test_a_mask_of_infinity_is_left_out_with_a_note_unless_it_is_needed(tmp_path: Path, capsys) -> None:
    feeds = [{"x": np.ones((2, 1, 2, 2), np.float32)}]
    given, where = (masked(), ["x", "scores"], lambda: feeds, 2), (tmp_path, "key", Progress("lines"))
    found = calibrate(Pass(*given, needed=["x"]), *where)
    assert list(found) == ["x"]
    assert "scores reaches infinity" in capsys.readouterr().err
    with pytest.raises(QuantbenchError, match="tensor scores reaches infinity"):
        calibrate(Pass(*given, needed=["x", "scores"]), *where)


def test_calibration_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Half of the images, then all: the first half is not run again, and the result is that of one run."""
    rng = np.random.default_rng(2)
    feeds = [{"x": rng.normal(size=(2, 1, 2, 2)).astype(np.float32)} for _ in range(4)]

    def run(folder: Path, given: list, key: str = "key") -> dict[str, Histogram]:
        folder.mkdir(exist_ok=True)
        return calibrate(Pass(masked(), ["x", "c"], lambda: given, 8), folder, key, Progress("lines"))

    whole = run(tmp_path / "a", feeds)
    broken = [{"x": np.full((2, 1, 2, 2), np.nan, np.float32)}] * 2
    run(tmp_path / "b", feeds[:2])
    resumed = run(tmp_path / "b", broken + feeds[2:])  # what was counted is skipped, unseen
    for name, histogram in whole.items():
        assert np.array_equal(histogram.counts, resumed[name].counts)
        assert histogram.amax == resumed[name].amax
    assert run(tmp_path / "b", feeds[2:], "another key")["x"].total == 16
