"""The options of `quantbench build` in `ptq` and in recipes: all of them, early refusals, and what they build."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from quantbench.cli.build_options import EngineOptions
from quantbench.cli.requests import build_options
from quantbench.engines.base import BuildOptions
from quantbench.engines.shapes import Profile
from quantbench.recipe import Compile, Recipe, load_recipe

ALL = """
backend: tensorrt
target: SM86, sm120
precision: fp16,bf16
shapes: ["image=1x3x64x64:4x3x64x64:8x3x64x64"]
batch: 4
pool: [workspace=4G]
timing_cache: caches
tactic_sources: +CUDNN,-CUBLAS
optimization_level: 5
refittable: true
version_compatible: true
hardware_compatible: Ampere_Plus
sparsity: true
dla_core: 1
gpu_fallback: true
layer_precision: ["head/*=fp32"]
precision_constraints: obey
strongly_typed: false
"""


def test_a_recipe_says_all_that_the_command_line_can(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("compile:\n" + "".join(f"  {line}\n" for line in ALL.strip().splitlines()))
    shape = tuple((n, 3, 64, 64) for n in (1, 4, 8))
    assert build_options(load_recipe(recipe).compile) == BuildOptions(
        precisions=frozenset({"fp16", "bf16"}), strongly_typed=False, profiles=(Profile({"image": shape}),),
        default_batch=4, targets=("sm86", "sm120"), pools={"workspace": 4 << 30}, timing_cache=Path("caches"),
        tactic_sources=("+CUDNN", "-CUBLAS"), optimization_level=5, refittable=True, version_compatible=True,
        hardware_compatible="ampere_plus", sparsity=True, dla_core=1, gpu_fallback=True,
        layer_precisions=(("head/*", "fp32"),), precision_constraints="obey",
    )  # fmt: skip


def test_every_field_has_an_option_and_the_other_way_round() -> None:
    options = {field.name for field in fields(EngineOptions)}
    assert set(Compile.model_fields) - {"quantization"} == options - {"weakly_typed"}


@pytest.mark.parametrize("command", ["build", "ptq", "qat-export"])
def test_the_help_of_each_command_names_them(cli, command: str) -> None:
    code, printed, _ = cli(command, "--help")
    assert code == 0
    for field in fields(EngineOptions):
        assert f"--{field.name.replace('_', '-')}" in printed


def test_shapes_targets_and_level_reach_the_compiler(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    log = tmp_path / "mine.log"
    shapes = "image=1x3x64x64:4x3x64x64:16x3x64x64"
    code, _, error = cli(
        "ptq", small_model, "--calib-dir", pictures, "--out", out, "--shapes", shapes, "--target", "sm86,sm120",
        "--optimization-level", 2, "--precision", "fp32", "--log", log,
    )  # fmt: skip
    assert code == 0, error
    facts = json.loads((out / "layers.json").read_text())
    assert facts["target"] == "sm86,sm120"
    assert facts["shape"] == [4, 3, 64, 64]
    # The engine has a dynamic batch; bytes are counted at the opt shape.
    assert {t["dims"][0] for layer in facts["layers"] for t in layer["inputs"] if len(t["dims"]) == 4} <= {4, 1}
    text = log.read_text()
    assert text == (out / "build.log").read_text()
    assert "[-1,3,64,64]" in text.replace(" ", "")
    assert "for sm86,sm120" in (out / "report.md").read_text()


def test_a_recipe_builds_the_same_as_the_command_line(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("compile: {target: sm89, precision: fp32, batch: 3}\n")
    common = ("ptq", small_model, "--calib-dir", pictures)
    assert cli(*common, "--out", tmp_path / "a", "--recipe", recipe)[0] == 0
    assert cli(*common, "--out", tmp_path / "b", "--target", "sm89", "--precision", "fp32", "--batch", 3)[0] == 0
    first, second = (json.loads((tmp_path / name / "layers.json").read_text()) for name in "ab")
    assert first["int8"] == second["int8"]
    assert first["target"] == second["target"] == "sm89"
    qdq = tmp_path / "a" / "model.qdq.onnx"
    code, printed, _ = cli("build", qdq, "--recipe", recipe, "--out", tmp_path / "c.engine", "--json")
    assert code == 0
    assert json.loads(printed)["targets"] == ["sm89"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dla-core", 0), ("--dla-core", "--backend tensorrt")),
        (("--shapes", "x=1x3x64x64"), ("'x'", "image")),
        (("--shapes", "image=1x3x32x32"), ("1x3x32x32", "?x3x64x64")),
        (("--target", "sm42"), ("sm42", "sm86")),
        (("--pool", "workspace"), ("--pool", "NAME=SIZE")),
        (("--backend", "tensorrt"), ("tensorrt is not installed", "doctor")),
        (("--backend", "onnxruntime", "--precision", "fp16"), ("FP32", "fp16")),
        (("--strongly-typed", "--weakly-typed"), ("contradict",)),
    ],
)
def test_wrong_options_are_refused_before_any_image_runs(
    cli, small_model: Path, pictures: Path, tmp_path: Path, options: tuple, words: tuple[str, ...]
) -> None:
    code, _, error = cli("ptq", small_model, "--calib-dir", pictures, "--out", tmp_path / "run", *options)
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    for word in words:
        assert word in error
    assert not (tmp_path / "run").exists()


def test_implicit_becomes_qdq_where_the_version_has_no_calibrators(
    cli, small_model: Path, pictures: Path, tmp_path: Path
) -> None:
    assert cli("ptq", small_model, "--calib-dir", pictures, "--out", tmp_path / "run", "--implicit")[0] == 0
    facts = json.loads((tmp_path / "run" / "layers.json").read_text())
    assert facts["quantization"] == "explicit"
    assert "no implicit quantization" in facts["notes"][0]
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["int8"]["weighted_int8"] == len(run["placement"]["quantized"]) >= 20
    assert "no implicit quantization" in (tmp_path / "run" / "report.md").read_text()


def test_onnxruntime_as_the_backend(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    code, printed, _ = cli(
        "ptq", small_model, "--calib-dir", pictures, "--out", tmp_path / "run", "--backend", "onnxruntime"
    )
    assert code == 0
    assert "onnxruntime" in printed
    built = onnx.load_from_string((tmp_path / "run" / "model.engine").read_bytes())
    assert "QLinearConv" in {node.op_type for node in built.graph.node}


def test_a_first_image_that_is_damaged(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "00.jpg").write_bytes(b"no jpeg")
    for number in range(3):
        Image.open(pictures / f"{number:02}.png").save(folder / f"1{number}.png")
    code, _, error = cli("ptq", small_model, "--calib-dir", folder, "--out", tmp_path / "run", "--max-bad", 1)
    assert code == 0, error
    assert json.loads((tmp_path / "run" / "layers.json").read_text())["shape"] == [1, 3, 64, 64]


def test_shipped_recipes_build_for_any_gpu() -> None:
    """No recipe names a target: where TensorRT and a GPU are, `auto` must come to them."""
    for path in sorted(Path("recipes").glob("*.yaml")):
        assert isinstance(load_recipe(path), Recipe)
        assert load_recipe(path).compile.target == ""


def test_a_model_that_the_compiler_refuses_costs_the_check_alone(cli, pictures: Path, tmp_path: Path) -> None:
    """TensorRT-RTX has no Det; onnxruntime has."""
    rng = np.random.default_rng(0)
    weights = {"w1": rng.standard_normal((16, 3, 3, 3)), "w2": rng.standard_normal((16, 16, 3, 3))}
    nodes = [helper.make_node("Conv", ["x", "w1"], ["a"], name="c1", pads=[1] * 4),
             helper.make_node("Conv", ["a", "w2"], ["b"], name="c2", pads=[1] * 4, strides=[8, 8]),
             helper.make_node("Conv", ["b", "w2"], ["c"], name="c3", pads=[1] * 4),
             helper.make_node("Det", ["c"], ["y"], name="odd")]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array((w * 0.1).astype(np.float32), name) for name, w in weights.items()],
    )  # fmt: skip
    model, out = tmp_path / "det.onnx", tmp_path / "run"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    code, printed, error = cli("ptq", model, "--calib-dir", pictures, "--out", out)
    assert code == 0
    for text in (printed, error, (out / "report.md").read_text()):
        assert "cannot build the INT8 model: node odd (Det)" in text
    assert json.loads((out / "run.json").read_text())["evaluation"]["outputs"]["sqnr_db"]["value"] > 5
    assert not (out / "layers.json").exists()
    # Named, the backend must build.
    code, _, error = cli("ptq", model, "--calib-dir", pictures, "--out", out, "--backend", "tensorrt-rtx")
    assert code == 2
    assert "node odd (Det)" in error


def test_two_profiles_count_once(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    common = ("ptq", small_model, "--calib-dir", pictures, "--precision", "fp32")
    first, second = "image=1x3x64x64:4x3x64x64:8x3x64x64", "image=16x3x64x64:16x3x64x64:32x3x64x64"
    assert cli(*common, "--out", tmp_path / "one", "--shapes", first)[0] == 0
    assert cli(*common, "--out", tmp_path / "two", "--shapes", first, "--shapes", second)[0] == 0
    one, two = (json.loads((tmp_path / name / "layers.json").read_text())["int8"] for name in ("one", "two"))
    assert "[profile 1]" in (tmp_path / "two" / "build.log").read_text()
    assert (two["layers"], two["traffic_bytes"]) == (one["layers"], one["traffic_bytes"])
