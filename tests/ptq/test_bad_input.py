"""Bad input: one clear line, exit code 2, nothing half-written."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from quantbench.demo import resnet18


def refused(result: tuple[int, str, str], out: Path, *words: str) -> None:
    code, _, error = result
    lines = [line for line in error.splitlines() if line.startswith("quantbench: error:")]
    assert code == 2, error
    assert len(lines) == 1
    assert "Traceback" not in error
    for word in words:
        assert word in lines[0]
    assert not out.exists()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def test_missing_model(cli, pictures: Path, out: Path) -> None:
    refused(cli("ptq", "nowhere.onnx", "--calib-dir", pictures, "--out", out), out, "nowhere.onnx", "does not exist")


@pytest.mark.parametrize("content", [b"", b"hello, this is no model", b"\x08\x01" * 40])
def test_not_an_onnx_file(cli, pictures: Path, out: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fake.onnx"
    path.write_bytes(content)
    refused(cli("ptq", path, "--calib-dir", pictures, "--out", out), out, "fake.onnx", "not an ONNX model")


def test_unsupported_op(cli, pictures: Path, out: Path, tmp_path: Path) -> None:
    model = resnet18.build(width=8, size=64, classes=10)
    model.graph.node[3].op_type = "Gelu"  # of opset 20, and the model has 17
    path = save(model, tmp_path / "m.onnx")
    refused(cli("ptq", path, "--calib-dir", pictures, "--out", out), out, "Gelu", model.graph.node[3].name, "opset")


def test_a_plugin_before_every_layer(cli, pictures: Path, out: Path, tmp_path: Path) -> None:
    model = resnet18.build(width=8, size=64, classes=10)
    model.graph.node[0].domain = "my.ops"
    path = save(model, tmp_path / "m.onnx")
    refused(cli("ptq", path, "--calib-dir", pictures, "--out", out), out, "no layer can be quantized",
            f"behind {model.graph.node[0].name}, which cannot be run here")  # fmt: skip


def test_nan_weights(cli, pictures: Path, out: Path, tmp_path: Path) -> None:
    model = resnet18.build(width=8, size=64, classes=10)
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, model.graph.initializer[0].name))
    path = save(model, tmp_path / "m.onnx")
    name = model.graph.initializer[0].name
    refused(cli("ptq", path, "--calib-dir", pictures, "--out", out), out, f"weight {name}", "1 NaN")


def test_model_that_is_quantized_already(cli, pictures: Path, out: Path, small_model: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    assert cli("ptq", small_model, "--calib-dir", pictures, "--out", first, "--no-compile")[0] == 0
    refused(cli("ptq", first / "model.qdq.onnx", "--calib-dir", pictures, "--out", out), out, "Q/DQ nodes")


def test_missing_empty_and_text_folders(cli, small_model: Path, out: Path, tmp_path: Path) -> None:
    refused(cli("ptq", small_model, "--calib-dir", tmp_path / "none", "--out", out), out, "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(cli("ptq", small_model, "--calib-dir", empty, "--out", out), out, "empty")
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("no image")
    refused(cli("ptq", small_model, "--calib-dir", texts, "--out", out), out, "texts")
    refused(cli("ptq", small_model, "--out", out), out, "--calib-dir")


def test_corrupt_images(cli, small_model: Path, out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corrupt"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(b"not a jpeg")
    result = cli("ptq", small_model, "--calib-dir", folder, "--out", out, "--max-bad", 5)
    refused(result, out, "not one of 3 images can be used")
    Image.new("RGB", (80, 80)).save(folder / "good.png")
    code, _, error = cli("ptq", small_model, "--calib-dir", folder, "--out", out, "--max-bad", 2)
    assert code == 2
    assert "0.jpg" in error
    assert "--max-bad" in error
    assert not out.exists()


def test_image_smaller_than_the_crop(cli, out: Path, tmp_path: Path, pictures: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"data:\n  calib_dir: {pictures}\n  preprocess: {{crop: 256}}\nmodel: {tmp_path / 'm.onnx'}\nout: {out}\n"
    )
    save(resnet18.build(width=8, size=256, classes=10), tmp_path / "m.onnx")
    refused(cli("ptq", "--recipe", recipe), out, "00.png", "256")


@pytest.mark.parametrize(
    ("shape", "elem_type"),
    [([1, 128], TensorProto.INT64), (["N", 77, 768], TensorProto.FLOAT), ([1, 17, 32, 32], TensorProto.FLOAT)],
)
def test_model_without_an_image_input(cli, pictures: Path, out: Path, tmp_path: Path, shape, elem_type) -> None:
    node = helper.make_node("Cast", ["ids"], ["y"], to=TensorProto.FLOAT)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("ids", elem_type, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    path = save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "text.onnx")
    refused(cli("ptq", path, "--calib-dir", pictures, "--out", out), out, "'ids'", "image")


def test_recipe_with_a_typo(cli, out: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "my.yaml"
    recipe.write_text("calibration:\n  calibratr: mse\n")
    refused(cli("ptq", "--recipe", recipe, "--out", out), out, "calibration.calibratr", "did you mean 'calibrator'?")
    recipe.write_text("calibration: [\n")
    refused(cli("ptq", "--recipe", recipe, "--out", out), out, "not valid YAML")
    recipe.write_text("compile:\n  precision: int4\n")
    refused(cli("ptq", "--recipe", recipe, "--out", out), out, "--precision int4", "int4")
    refused(cli("ptq", "--recipe", "dmo", "--out", out), out, "did you mean demo?")


def test_unknown_calibrator_and_target(cli, small_model: Path, pictures: Path, out: Path) -> None:
    command = ("ptq", small_model, "--calib-dir", pictures, "--out", out)
    refused(cli(*command, "--calibrator", "entrophy"), out, "entrophy")
    refused(cli(*command, "--target", "sm13"), out, "sm13", "sm86")


def test_unwritable_output(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    code, _, error = cli("ptq", small_model, "--calib-dir", pictures, "--out", blocked / "run")
    assert code == 2
    assert str(blocked) in error
    code, _, error = cli("ptq", small_model, "--calib-dir", pictures, "--out", "/proc/quantbench")
    assert code == 2
    assert "/proc/quantbench" in error


def test_foreign_folder_is_never_used(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for flags in ((), ("--overwrite",)):
        code, _, error = cli("ptq", small_model, "--calib-dir", pictures, "--out", mine, *flags)
        assert code == 2
        assert "no run folder" in error
    assert [p.name for p in mine.iterdir()] == ["thesis.txt"]


def test_an_open_size_that_does_not_fit_is_named_with_its_origin(
    cli, pictures: Path, out: Path, tmp_path: Path
) -> None:
    """Height and width are open, and a flatten behind the conv fits 32x32 alone."""
    rng = np.random.default_rng(0)
    stored = [numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
              for name, shape in (("w", (8, 3, 3, 3)), ("v", (8, 8, 3, 3)), ("u", (10, 8 * 32 * 32)))]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "v"], ["b"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["b"], ["c"], "flat"),
        helper.make_node("Gemm", ["c", "u"], ["y"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "open", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])], stored,
    )  # fmt: skip
    path = save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx"
    )
    result = cli("ptq", path, "--calib-dir", pictures, "--out", out, "--no-compile")
    refused(result, out, "3x224x224", "comes of preset imagenet, by default", "preprocess: {exact: [HEIGHT, WIDTH]}")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data:\n  preprocess: {exact: [32, 32]}\n")
    code, _, error = cli("ptq", path, "--recipe", recipe, "--calib-dir", pictures, "--out", out, "--no-compile",
                         "--calibrator", "minmax")  # fmt: skip
    assert code == 0, error
