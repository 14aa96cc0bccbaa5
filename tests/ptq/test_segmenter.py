"""`quantbench ptq` on a segmenter: mIoU against labelled masks, and pictures of both models' masks in the report."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from quantbench.evaluate.task import OutputFacts, find_task

SIDE, CLASSES = 32, 3


def segmenter(path: Path) -> None:
    """Two convolutions: classes 0, 1 and 2 where the picture is blue, red and green."""
    first = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32) * 0.02
    second = np.zeros((CLASSES, 8, 1, 1), np.float32)
    for channel in range(3):
        first[channel, :, 1, 1] = np.eye(3)[channel]
        second[(1, 2, 0)[channel], channel] = 1
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["maps"], "conv2"),
    ]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", c, SIDE, SIDE]) for n, c in
            (("image", 3), ("maps", CLASSES))]  # fmt: skip
    stored = [numpy_helper.from_array(v, n) for n, v in (("w1", first), ("w2", second))]
    graph = helper.make_graph(nodes, "m", info[:1], info[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def scenes(root: Path, count: int) -> None:
    """Blue pictures with a red and a green patch, and masks of these."""
    rng = np.random.default_rng(1)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[4:14, 3 + number : 15 + number], mask[18:30, 8:24] = 1, 2
        pixels = rng.integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[np.arange(SIDE)[:, None], np.arange(SIDE), np.array([2, 0, 1])[mask]] += 120
        Image.fromarray(pixels).save(root / f"images/{number}.png")
        Image.fromarray(mask).save(root / f"masks/{number}.png")


def test_masks_are_measured_and_drawn(cli, tmp_path: Path) -> None:
    segmenter(tmp_path / "seg.onnx")
    scenes(tmp_path, 4)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data:\n  preprocess: {{exact: {SIDE}, scale: 0.0039}}\nevaluation: {{latency: false}}\n")
    out = tmp_path / "run"
    images = tmp_path / "images"
    code, _, error = cli("ptq", tmp_path / "seg.onnx", "--recipe", recipe, "--calib-dir", images, "--eval-dir", images,
                         "--labels", "masks", "--out", out, "--no-compile", "--keep-float", "conv2")  # fmt: skip
    assert code == 0, error
    evaluation = json.loads((out / "run.json").read_text())["evaluation"]
    assert evaluation["task"] == "masks"
    assert evaluation["outputs"]["miou_float"]["value"] > 0.9
    assert evaluation["outputs"]["pixels_alike"]["value"] > 0.9
    pictures = json.loads((out / "pictures.json").read_text())
    assert len(pictures) == 3
    assert "% of pixels alike" in pictures[0]["caption"]
    drawn = decoded(pictures[0]["uri"])
    assert drawn.shape == (SIDE, 2 * SIDE + 8, 3)
    for left in (0, SIDE + 8):  # vermilion lies over the green patch and sky blue over the red one, in both halves
        red, green, blue = drawn[22:26, left + 12 : left + 20].reshape(-1, 3).mean(axis=0)
        assert red > green > blue
        red, green, blue = drawn[7:11, left + 6 : left + 12].reshape(-1, 3).mean(axis=0)
        assert blue > green > 80
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 3


def decoded(uri: str) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))), np.float64)


MAPS = np.zeros((1, 3, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("output", "facts", "kind"),
    [
        (MAPS, OutputFacts(names=("a", "b", "c")), "masks"),
        (MAPS, OutputFacts(makers=("Softmax",)), "masks"),
        (np.zeros((1, 8, 8), np.int64), OutputFacts(makers=("ArgMax",)), "masks"),
        # A picture of three channels, and a class for each of eight parts: nothing says that these are masks.
        (MAPS, OutputFacts(makers=("Conv",)), "values"),
        (np.zeros((1, 8), np.int64), OutputFacts(makers=("ArgMax",)), "values"),
    ],
)
def test_what_is_taken_for_masks(output: NDArray[np.generic], facts: OutputFacts, kind: str) -> None:
    assert find_task([output], facts).kind == kind
