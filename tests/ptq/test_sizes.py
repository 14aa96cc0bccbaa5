"""`--shapes` with a range: calibrated in all its sizes in one run, and the engine's profile from the same words."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.engines.shapes import parse_profile, shapes_by_input
from quantbench.errors import QuantbenchError
from quantbench.images.folder import ImageFolder
from quantbench.images.preprocess import Preprocess
from quantbench.images.sizes import OfSizes

RANGE = "image=1x3x32x48:2x3x64x64:4x3x64x96"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers that take pictures of any size."""
    rng = np.random.default_rng(0)
    weights = {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (16, 16, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("Conv", ["d", "w3"], ["y"], "third", pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes, "sizes", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, "h2", "w2"])],
        [numpy_helper.from_array(rng.normal(0, 0.2, s).astype(np.float32), name) for name, s in weights.items()],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("sizes") / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_pictures_are_prepared_in_each_size_and_come_in_batches_of_one(pictures: Path) -> None:
    sizes = tuple(Preprocess(exact=size) for size in ((32, 48), (64, 64), (64, 96)))
    source = OfSizes(ImageFolder(pictures), sizes)
    shapes = [source.load(index).shape[1:] for index in range(len(source))]
    assert shapes == [(32, 48)] * 4 + [(64, 64)] * 4 + [(64, 96)] * 4
    assert [source.name(index) for index in (0, 1, 4, 8)] == ["00.png", "03.png", "01.png", "02.png"]
    assert sorted(source.name(i) for i in range(len(source))) == [f"{i:02}.png" for i in range(12)]
    assert source.sha256() != OfSizes(ImageFolder(pictures), sizes[:2]).sha256()
    assert [array.shape[1:] for array in source.of_each_size()] == [(32, 48), (64, 64), (64, 96)]
    with pytest.raises(QuantbenchError, match="12 calibration images for 13 sizes"):
        OfSizes(ImageFolder(pictures), sizes[:1] * 13)


def test_a_range_calibrates_in_all_sizes_and_sets_the_profile(cli, model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, _, error = cli("ptq", model, "--calib-dir", pictures, "--shapes", RANGE, "--out", out, "--target", "sm86")
    assert code == 0, error
    assert f"12 images, {pictures}, in 3 sizes" in error
    run = json.loads((out / "run.json").read_text())
    assert all(f"crop {size}" in run["preprocess"]["words"] for size in ("32x48", "64x64", "64x96"))
    # 12 pictures, four in each size, three channels.
    counted = np.load(out / ".quantbench" / "histograms.npz")
    row = counted["names"].tolist().index("image")
    assert counted["counts"][row].sum() == 4 * 3 * (32 * 48 + 64 * 64 + 64 * 96)
    layers = json.loads((out / "layers.json").read_text())
    assert layers["shape"] == [2, 3, 64, 64]


def test_one_size_is_the_size_of_the_pictures(cli, model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("ptq", model, "--calib-dir", pictures, "--shapes", "image=4x3x48x80", "--out", out, "--no-compile")
    assert cli(*command)[0] == 0
    assert json.loads((out / "run.json").read_text())["preprocess"]["settings"]["crop"] == [48, 80]


def test_arrays_of_several_sizes_pass_in_one_run(cli, model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(1)
    for size in ((32, 48), (64, 64), (64, 96)):
        np.save(data / f"{size[0]}x{size[1]}.npy", rng.normal(size=(3, 3, *size)).astype(np.float32))
    out = tmp_path / "run"
    code, _, error = cli("ptq", model, "--calib-data", data, "--shapes", RANGE, "--out", out, "--no-compile")
    assert code == 0, error
    assert json.loads((out / "run.json").read_text())["data"]["images"] == 9


def test_two_shapes_are_the_least_and_the_largest() -> None:
    profile = parse_profile("image=1x3x480x640:8x3x720x1280")
    low, best, high = profile.shapes["image"]
    assert (low, best, high) == ((1, 3, 480, 640), (8, 3, 720, 1280), (8, 3, 720, 1280))
    assert shapes_by_input([profile]) == {"image": ((1, 3, 480, 640), (8, 3, 720, 1280))}
    with pytest.raises(QuantbenchError, match="or MIN:MAX"):
        parse_profile("image=1x3:1x3:1x3:1x3")
