"""`quantbench qat-export` as a user types it: a random YOLOv8n, torchvision classifiers, fine-tuning, faults."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from datasets.scenes import SceneOptions, draw_crops, write_scenes
from quantbench.cli.main import app, register_commands
from quantbench.errors import QuantbenchError
from quantbench.qat import distributed
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from tests.qat import networks

if not any(command.name == "qat-export" for command in app.registered_commands):
    register_commands()


def _run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["qat-export", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def test_random_yolov8n_as_typed(yolo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = _run(str(yolo_checkpoint))
    folder = tmp_path / "runs" / "yolov8-qat"
    session = onnxruntime.InferenceSession(str(folder / "yolov8.qdq.onnx"), providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("images", [1, 3, 640, 640])]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("output0", [1, 84, 8400])]
    assert len(run["exported"]["quantized"]) == 45
    assert all("model.22" in name for name in set(run["exported"]["weighted"]) - set(run["exported"]["quantized"]))
    assert all("model.22" in name for name in run["compiled"]["int8"]["not_int8"])
    assert 0 < run["compiled"]["plain"]["traffic_bytes"] != run["compiled"]["int8"]["traffic_bytes"]
    assert run["prediction"]["int8_layers"] == 45
    report = (folder / "report.md").read_text()
    assert "TensorRT, predicted" in report
    assert "on TensorRT-RTX" in report
    assert run["compiled"]["int8"]["weighted_int8"] == 45
    assert len(run["exported"]["concats"]) == 13
    assert all(len(scales) == 1 for scales in run["exported"]["concats"].values())
    for name in ("report.md", "report.html", "run.json", "ranges.json", "layers.json", "build.log"):
        assert (folder / name).stat().st_size > 500


def test_yolo_is_fine_tuned_and_resumed(yolo_checkpoint: Path, tmp_path: Path) -> None:
    options = SceneOptions(size=64, smallest=12, largest=40)
    data = write_scenes(tmp_path / "scenes", {"train": 8, "val": 4}, 0, options, 1)
    torch.save({"model": networks.small_yolo(10)}, tmp_path / "ten.pt")
    arguments = ["--size", "64", "--data", str(data), "--out", str(tmp_path / "run"), "--batch-size", "4",
                 "--no-compile", "--device", "cpu", "--distill", "0.1", "--exporter", "legacy"]  # fmt: skip
    with pytest.raises(QuantbenchError, match=r"has 80 classes and .*data\.yaml has 10"):
        _run(str(yolo_checkpoint), *arguments, "--epochs", "1", "--overwrite")
    run = _run(str(tmp_path / "ten.pt"), *arguments, "--epochs", "1", "--overwrite")
    assert run["training"]["epochs"] == len(run["training"]["history"]) == 1
    assert run["data"]["what"].startswith("training images")
    again = _run(str(tmp_path / "ten.pt"), *arguments, "--epochs", "2", "--resume")
    assert again["training"]["started_at"] == 1
    assert [h["epoch"] for h in again["training"]["history"]] == [0.0, 1.0]


def test_classifier_with_recipe_data_and_epochs(tmp_path: Path) -> None:
    torch.save(networks.mobilenet_v2().state_dict(), tmp_path / "m.pth")
    options = SceneOptions(size=64, most_digits=1, smallest=26, largest=56)
    for split, count in (("train", 32), ("val", 16)):
        images, labels = draw_crops(0, split, count, options)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            target = tmp_path / "data" / split / str(label) / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(target)
    arguments = ["mobilenet_v2", "--weights", str(tmp_path / "m.pth"), "--recipe", "resnet18-qat", "--size", "64",
                 "--data", str(tmp_path / "data"), "--batch-size", "16", "--no-compile", "--torch", "cpu",
                 "--out", str(tmp_path / "run"), "--device", "orin"]  # fmt: skip
    run = _run(*arguments, "--epochs", "1")
    assert run["prediction"]["latency"]["device"] == "orin"
    assert "On orin, batch 1, without the card" in (tmp_path / "run" / "report.md").read_text()
    assert run["training"]["epochs"] == 1
    assert set(run["training"]["top1"]) == {"float", "calibrated", "fine-tuned"}
    again = _run(*arguments, "--epochs", "2", "--resume", "--exporter", "legacy")
    assert again["training"]["started_at"] == 1
    assert "Fine-tuning" in (tmp_path / "run" / "report.md").read_text()
    session = onnxruntime.InferenceSession(str(tmp_path / "run" / "mobilenet_v2.qdq.onnx"))
    assert session.run(None, {"input": np.zeros((3, 3, 64, 64), np.float32)})[0].shape == (3, 10)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says that there is no card")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "cuda"), "torch sees no CUDA GPU; leave --device out or give --device cpu"),
        (("--torch", "cuda:1"), "torch sees no CUDA GPU"),
        (("--device", "nowhere"), "neither cpu, cuda or cuda:1, for torch, nor a learnt device to time on: a100"),
        (("--device", "cpu", "--device", "cuda"), "names cpu and cuda, two for torch; give one"),
    ],
)
def test_device_is_where_torch_runs_or_what_is_timed_as_for_ptq(
    yolo_checkpoint: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(QuantbenchError, match=said):
        _run(str(yolo_checkpoint), *words, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_card_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch is told that there are two cards, which it is not asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed.device("cuda:1") == torch.device("cuda", 1)
    assert distributed.ultralytics_device(torch.device("cuda", 1)) == "1"
    with pytest.raises(QuantbenchError, match="no card cuda:2"):
        distributed.device("cuda:2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(QuantbenchError, match="give --device cuda: a card each"):
        distributed.device("cuda:1")


def test_modelopt_model_is_taken_as_it_is(yolo_checkpoint: Path, tmp_path: Path) -> None:
    import modelopt.torch.quantization as mtq

    from quantbench.qat.checks import run_onnx, run_torch
    from quantbench.qat.foreign import foreign_quantizers
    from quantbench.qat.to_onnx import ExportOptions, export_onnx

    model = networks.residual()
    x = torch.rand(2, 3, 32, 32)
    quantized = mtq.quantize(model, mtq.INT8_DEFAULT_CFG, lambda m: m(x))
    assert foreign_quantizers(quantized) == "NVIDIA ModelOpt"
    exported = export_onnx(quantized, x, (), ExportOptions("legacy"))
    ops = [n.op_type for n in exported.graph.node]
    assert ops.count("QuantizeLinear") >= 10
    difference = np.abs(run_onnx(exported, x.numpy())[0] - run_torch(quantized, x)[0]).max()
    assert difference < 0.05


@pytest.mark.parametrize(("arguments", "line"), [
    (["nothing.pt"], "does not exist"),
    (["no_such_net"], "neither a file nor a torchvision classifier"),
    (["resnet18"], "no weights for resnet18"),
    (["resnet18", "--weights", "state.pth"], "does not fit the architecture"),
    (["state.pth"], "weights without an architecture"),
    (["yolov8.pt", "--epochs", "1"], "--epochs needs training data"),
    (["yolov8.pt", "--size", "100"], "no multiple of 32"),
    (["yolov8.pt", "--calibrator", "magic"], "unknown threshold method 'magic'"),
])  # fmt: skip
def test_faults_are_one_line(
    arguments: list[str], line: str, yolo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(3, 3)}, "state.pth")
    Path("yolov8.pt").write_bytes(yolo_checkpoint.read_bytes())
    with pytest.raises(QuantbenchError, match=line) as caught:
        _run(*arguments)
    assert "\n" not in str(caught.value)
    assert not Path("runs").exists()


def test_options_of_the_build_are_checked_first_and_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": networks.small_yolo()}, "yolov8.pt")
    with pytest.raises(QuantbenchError, match="--dla-core"):
        _run("yolov8.pt", "--dla-core", "0")
    with pytest.raises(QuantbenchError, match="images as 1x3x64x64"):
        _run("yolov8.pt", "--shapes", "images=1x3x64x64", "--size", "96")
    assert not (tmp_path / "runs").exists()
    shapes = "images=1x3x96x96:2x3x96x96:4x3x96x96"
    run = _run("yolov8.pt", "--size", "96", "--dynamic", "--shapes", shapes, "--target", "sm89,sm120",
               "--precision", "fp32", "--max-images", "2")  # fmt: skip
    facts = run["compiled"]
    assert (facts["target"], facts["precision"], facts["shape"]) == ("sm89,sm120", "fp32", [2, 3, 96, 96])
    session = onnxruntime.InferenceSession("runs/yolov8-qat/yolov8.qdq.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((3, 3, 96, 96), np.float32)
    whole = session.run(None, {"images": images})[0]
    assert np.array_equal(whole[1:2], session.run(None, {"images": images[1:2]})[0])


def test_a_batch_that_the_model_fixes_is_told(tmp_path: Path) -> None:
    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).reshape(2, 8) if x.shape[0] == 2 else self.linear(x)

    with pytest.raises(QuantbenchError, match="--exporter legacy"):
        export_onnx(Fixed(), torch.rand(1, 8), (), ExportOptions(dynamic_batch=True))
