"""`quantbench eval` as typed: labels of every kind, class lists, gates, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from quantbench.data.class_list import folder_classes, read_classes
from quantbench.errors import QuantbenchError
from tests.ptq.small_run import run as small_run
from tests.ptq.small_run import write_data, write_model

SIDE = 8
COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
TRAINED = ("red", "green", "blue")


def colour_model(path: Path, *, shift: float = 0.0, names: bool = False) -> Path:
    """A classifier of three answers, red, green and blue: the mean of each channel; `shift` is added to green."""
    node = helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0)
    add = helper.make_node("Add", ["means", "shift"], ["scores"])
    softmax = helper.make_node("Softmax", ["scores"], ["answer"])
    stored = [
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array([0, shift, 0], np.float32), "shift"),
    ]
    graph = helper.make_graph(
        [node, add, softmax],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", 3])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if names:
        helper.set_model_props(model, {"names": repr(dict(enumerate(TRAINED)))})
    onnx.save(model, path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures of red and four of blue; nothing green."""
    for name in ("red", "blue"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (SIDE, SIDE), COLOURS[name]).save(tmp_path / "val" / name / f"{number}.png")
    return tmp_path / "val"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(f"data:\n  preprocess: {{exact: {SIDE}, scale: 0.00392156862745098}}\n")
    return path


def test_folders_follow_the_models_list(cli, tmp_path: Path, pictures: Path, recipe: Path) -> None:
    """By the folders at hand, sorted, blue would be 0 and red 1: nothing right."""
    model = colour_model(tmp_path / "named.onnx", names=True)
    base = ("eval", model, "--data", pictures, "--recipe", recipe, "--labels", "folder", "--json")
    code, printed, error = cli(*base)
    assert code == 0, error
    assert json.loads(printed)["models"][0]["measures"]["top1"]["value"] == 1.0


def test_without_a_list_it_asks_for_one(cli, tmp_path: Path, pictures: Path, recipe: Path) -> None:
    model = colour_model(tmp_path / "m.onnx")
    base = ("eval", model, "--data", pictures, "--recipe", recipe, "--labels", "folder")
    code, _, error = cli(*base)
    assert code == 2
    assert "2 folders (blue, red), but the model has 3 answers" in error
    assert "--classes FILE" in error
    listed = tmp_path / "classes.txt"
    listed.write_text("\n".join(TRAINED))
    code, printed, error = cli(*base, "--classes", listed)
    assert code == 0, error
    assert "top-1                100.0 %" in printed
    listed.write_text("red\ngreen\n")
    code, _, error = cli(*base, "--classes", listed)
    assert code == 2
    assert "folder 'blue' is none of the 2 classes" in error


def test_list_of_classes(tmp_path: Path) -> None:
    assert folder_classes(("a", "c"), ("c", "b", "a"), 3) == ("c", "b", "a")
    assert folder_classes(("2", "10"), (), 1000)[10] == "10"
    assert folder_classes(("a", "b"), (), 2) == ("a", "b")
    with pytest.raises(QuantbenchError, match="in no folders"):
        folder_classes((), (), 2)
    (tmp_path / "train" / "b").mkdir(parents=True)
    (tmp_path / "train" / "a").mkdir()
    assert read_classes(tmp_path / "train") == ("a", "b")
    (tmp_path / "twice.txt").write_text("a\na\n")
    with pytest.raises(QuantbenchError, match="'a' stands twice"):
        read_classes(tmp_path / "twice.txt")


def test_two_models_gates_and_a_metric(cli, tmp_path: Path, pictures: Path, recipe: Path) -> None:
    good, bad = colour_model(tmp_path / "good.onnx"), colour_model(tmp_path / "bad.onnx", shift=2.0)
    table = tmp_path / "labels.csv"
    rows = [f"{name}/{n}.png,{name}" for name in ("red", "blue") for n in range(4)]
    table.write_text("image,label\n" + "\n".join(rows))
    (tmp_path / "classes.txt").write_text("\n".join(TRAINED))
    metric = tmp_path / "mine.py"
    metric.write_text("def sure(outputs, labels):\n    return 1 - outputs['answer'][:, 1]\n")
    base = ("eval", good, bad, "--data", pictures, "--recipe", recipe, "--labels", f"csv={table}", "--classes",
            tmp_path / "classes.txt", "--metric", f"{metric}:sure")  # fmt: skip
    code, printed, error = cli(*base, "--min-agreement", 99, "--max-drop", 0.5, "--min-sqnr", 40)
    assert code == 3
    assert "gate: bad: same answers: 0.0 % of 8 images, under 99 %" in error
    assert "gate: bad: sure drops" in error
    assert "SQNR is" in error
    assert "next: quantbench sensitivity" in error
    assert "p 0.0078 (McNemar, exact): a difference" in printed
    assert "100.0 % →   0.0 % (-100.0; 4)" in printed
    code, _, error = cli(*base[:2], *base[3:], "--max-drop", 0.5)
    assert code == 0, error


def test_masks(cli, tmp_path: Path) -> None:
    """A segmenter of two classes, right on all pixels but one row; 255 does not count."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:4] = 255
    mask = (pixels[:, :, 0] > 0).astype(np.uint8)
    mask[4], mask[7] = 1, 255
    Image.fromarray(pixels).save(tmp_path / "images/a.png")
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    nodes = [
        helper.make_node("Slice", ["image", "zero", "one", "one"], ["red"]),
        helper.make_node("Sub", ["red", "half"], ["above"]),
        helper.make_node("Neg", ["above"], ["below"]),
        helper.make_node("Concat", ["below", "above"], ["map"], axis=1),
    ]
    stored = [numpy_helper.from_array(np.array([v], np.int64), n) for n, v in (("zero", 0), ("one", 1))]
    stored.append(numpy_helper.from_array(np.float32(0.5), "half"))
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", c, SIDE, SIDE]) for n, c in
            (("image", 3), ("map", 2))]  # fmt: skip
    graph = helper.make_graph(nodes, "m", info[:1], info[1:], stored)
    # Slices of axis 1 only.
    nodes[0].input[3] = "one"
    path = tmp_path / "seg.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data:\n  preprocess: {{exact: {SIDE}, scale: 0.00392156862745098}}\n")
    code, printed, error = cli("eval", path, "--data", tmp_path / "images", "--labels", "masks", "--task", "masks",
                               "--recipe", recipe, "--json")  # fmt: skip
    assert code == 0, error
    measures = json.loads(printed)["models"][0]["measures"]
    assert measures["pixels"]["value"] == pytest.approx(6 / 7)
    # Background: 2 rows right of 3; foreground: 4 right of 5.
    assert measures["miou"]["value"] == pytest.approx((2 / 3 + 4 / 5) / 2)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("--labels", "folders"), "--labels 'folders' is none of none, folder"),
        (("--labels", "coco"), "--labels coco needs its annotations"),
        (("--labels", "csv"), "cannot read labels"),
        (("--task", "boxes"), "--task boxes: none of the model's outputs is such (float32[8, 3])"),
        (("--task", "poses"), "--task poses is none of auto, classes"),
    ],
)
def test_faults(cli, tmp_path: Path, pictures: Path, recipe: Path, extra: tuple[str, ...], words: str) -> None:
    model = colour_model(tmp_path / "m.onnx")
    code, _, error = cli("eval", model, "--data", pictures, "--recipe", recipe, *extra)
    assert code == 2
    assert words in error.replace("\n", " ")


def test_int8_is_held_against_our_own_integers(cli, tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "data")
    small_run(tmp_path, tmp_path / "run")
    models = [tmp_path / "m.onnx", tmp_path / "run" / "model.qdq.onnx", tmp_path / "run" / "model.ort.onnx"]
    base = ("--data", tmp_path / "data", "--reference", 4)
    code, printed, _ = cli("eval", *models, *base, "--out", tmp_path / "e.json")
    assert code == 0
    assert "model.qdq: 2 tensors, 2,816 values" in printed
    found = json.loads((tmp_path / "e.json").read_text())["int8_arithmetic"]
    assert set(found) == {"model.qdq", "model.ort"}
    assert all(one["worst"] <= 1 for one in found.values())
    code, _, error = cli("eval", models[0], *base)
    assert (code, "none of these does" in error) == (2, True)
