"""It must not matter how a YOLO checkpoint was saved, nor which size or head of the family it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quantbench.errors import QuantbenchError
from quantbench.qat import yolo
from quantbench.qat.checks import run_onnx, run_torch
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.models import load_model
from quantbench.qat.quantizer import activation_quantizers, weight_quantizers
from quantbench.qat.safe_load import load_checkpoint
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import trace
from quantbench.qdq.options import PlacementOptions


def _model(config: str) -> nn.Module:
    from ultralytics import YOLO

    torch.manual_seed(0)
    made: nn.Module = YOLO(config).model.eval()
    return made


def _loaded(content: Any, path: Path) -> nn.Module:
    torch.save(content, path)
    return yolo.yolo_model(load_checkpoint(path))


@pytest.mark.parametrize("form", ["model", "ema", "half", "fused"])
def test_every_way_to_save(form: str, tmp_path: Path) -> None:
    model = _model("yolov8n.yaml")
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = run_torch(model, x)[0]
    content = {"model": model, "ema": None}
    if form == "ema":
        content = {"model": _model("yolov8n.yaml").half(), "ema": model}
    elif form == "half":
        content = {"model": model.half()}
    elif form == "fused":
        content = {"model": model.fuse(verbose=False)}
    loaded = _loaded(content, tmp_path / "m.pt")
    assert next(loaded.parameters()).dtype == torch.float32
    found = run_torch(loaded, x)[0]
    assert abs(found - expected).max() <= (0.5 if form == "half" else 1e-2)
    with yolo.exporting(loaded):
        traced = trace(loaded, x)
    insert(loaded, traced, plan_for(traced, PlacementOptions(), yolo.float_modules(loaded)))
    assert len(list(weight_quantizers(loaded))) == 45


@pytest.mark.parametrize(("config", "exporter", "shapes"), [
    ("yolov8s.yaml", "legacy", [(1, 84, 84)]),  # the layers of yolov8n, whose export by dynamo test_command.py has
    ("yolov8n-seg.yaml", "dynamo", [(1, 116, 84), (1, 32, 16, 16)]),
    ("yolov8n-cls.yaml", "dynamo", [(1, 1000)]),
])  # fmt: skip
def test_sizes_and_heads_export_with_their_outputs(
    config: str, exporter: str, shapes: list[tuple[int, ...]], tmp_path: Path
) -> None:
    model = _loaded({"model": _model(config)}, tmp_path / "m.pt")
    x = yolo.example_input(model, (64, 64))
    with yolo.exporting(model):
        traced = trace(model, x)
        insert(model, traced, plan_for(traced, PlacementOptions(), yolo.float_modules(model)))
        names = yolo.output_names(model)
        options = ExportOptions(exporter, input_name="images", output_names=names)
        exported = export_onnx(model, x, traced.folds, options)
        assert activation_quantizers(model)
    assert [i.name for i in exported.graph.input] == ["images"]
    assert [o.name for o in exported.graph.output] == list(names)
    assert [o.shape for o in run_onnx(exported, x.numpy())] == shapes


def test_height_and_width_of_a_yolo_are_two_numbers(tmp_path: Path) -> None:
    torch.save({"model": _model("yolov8n.yaml")}, tmp_path / "m.pt")
    model = load_model(str(tmp_path / "m.pt"), size=(64, 96), trust=True)
    assert (model.size, model.preprocess.letterbox) == ((64, 96), (64, 96))
    with yolo.exporting(model.module):
        options = ExportOptions("legacy", input_name="images", output_names=("y",))
        exported = export_onnx(model.module, model.example, {}, options)
        assert run_onnx(exported, model.example.numpy())[0].shape == (1, 84, 8 * 12 + 4 * 6 + 2 * 3)
    with pytest.raises(QuantbenchError, match="image size 64,90 is no multiple of 32"):
        load_model(str(tmp_path / "m.pt"), size=(64, 90), trust=True)
