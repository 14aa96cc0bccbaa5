"""PTQ accuracy on models with trained weights: digit scenes and crops that were held out from their training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from datasets.scenes import SceneOptions, draw_crops, draw_scene
from quantbench.calibration.collect import collect
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.evaluate.boxes import decode
from quantbench.evaluate.mean_ap import match, mean_ap
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.images.truth import Truth
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place

MODELS = Path(__file__).parents[1] / "data" / "models"
CROP = SceneOptions(size=64, most_digits=1, smallest=26, largest=56)


def _run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts: list[Any] = [session.run(None, {name: x[i : i + 16]})[0] for i in range(0, len(x), 16)]
    return np.concatenate(parts)


def _ptq(model: onnx.ModelProto, x: NDArray[np.float32], method: str, options: PlacementOptions) -> onnx.ModelProto:
    plan = place(view_of(model), options)
    feeds: list[Mapping[str, Any]] = [{model.graph.input[0].name: x[i : i + 8]} for i in range(0, len(x), 8)]
    histograms = collect(model, feeds, plan.tensors)
    return insert_qdq(model, plan, find_ranges(histograms, method, threshold_method(method)))


def _crops(split: str, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images, labels = draw_crops(0, split, count, CROP)
    return ((images.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2).copy(), labels


def test_classifier_keeps_its_top1() -> None:
    model = load_model(MODELS / "mobilenetv2-digits.onnx")
    x, y = _crops("test", 500)
    float_top1 = float((_run(model, x).argmax(1) == y).mean())
    assert float_top1 > 0.82
    quantized = _ptq(model, _crops("train", 64)[0], "mse", PlacementOptions())
    assert float((_run(quantized, x).argmax(1) == y).mean()) >= float_top1 - 0.02


@pytest.fixture(scope="module")
def scenes() -> tuple[NDArray[np.float32], list[Truth]]:
    drawn = [draw_scene(0, "test", i) for i in range(48)]
    x = np.stack([s.image for s in drawn]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    return x, [Truth(s.boxes, s.classes) for s in drawn]


def _map(model: onnx.ModelProto, x: NDArray[np.float32], truths: list[Truth]) -> float:
    return mean_ap(match(decode(_run(model, x)), truths, 10))


def test_detector_keeps_its_map(scenes: tuple[NDArray[np.float32], list[Truth]]) -> None:
    x, truths = scenes
    model = load_model(MODELS / "digit-detector.onnx")
    float_map = _map(model, x, truths)
    assert float_map > 0.7
    drawn = np.stack([draw_scene(0, "train", i).image for i in range(16)])
    calibration = drawn.transpose(0, 3, 1, 2).astype(np.float32) / 255
    options = PlacementOptions()
    quantized = _ptq(model, calibration, "mse", options)
    assert sum(n.op_type == "QuantizeLinear" for n in quantized.graph.node) == 43
    assert _map(quantized, x, truths) >= float_map - 0.02
