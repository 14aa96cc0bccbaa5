"""The commands that scripts/chaos.py disturbs, and what they read: a model of three layers and its data."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """A command on what `prepare` left in {home}; {out} is what it makes."""

    name: str
    command: str


JOBS = (
    Job(
        "ptq",
        "ptq {home}/m.onnx --calib-data {home}/data --out {out}/r --no-compile --threads 1 --calibrator minmax"),
    Job("cache convert", "cache convert {home}/c.cache --to tensorrt --out {out}/c.cache"),
    Job("cache to-qdq", "cache to-qdq {home}/c.cache {home}/m.onnx --out {out}/q.onnx"),
    Job("build", "build {home}/q.onnx --backend onnxruntime --out {out}/e.onnx"),
    Job("build apart", "build {home}/q.onnx --backend tensorrt-rtx --out {out}/e.engine"),
    Job("tune", "tune {home}/m.onnx --data {home}/data --min-sqnr 1 --out {out}/t --threads 1"),
    Job("sweep", "sweep {home}/r.yaml --grid calibrator=minmax --out {out}/s"),
    Job("qat-export", "qat-export --recipe {home}/qat.yaml --trust --out {out}/q --no-compile --device cpu"),
)  # fmt: skip


def prepare(home: Path) -> None:
    """Model, data, cache, recipes and a checkpoint for the jobs."""
    import numpy as np
    import torch
    from PIL import Image

    from quantbench.load_object import load_object
    from tests.ptq.small_run import run, write_data, write_model

    write_model(home / "m.onnx")
    write_data(home / "data")
    run(home, home / "made")
    shutil.copy(home / "made" / "calibration.cache", home / "c.cache")
    shutil.copy(home / "made" / "model.qdq.onnx", home / "q.onnx")
    data = f"data: {{calib_dir: {home}/data}}\nevaluation: {{latency: false}}\ncompile: {{backend: none}}\nthreads: 1\n"
    (home / "r.yaml").write_text(f"model: {home}/m.onnx\n{data}")
    (home / "imgs").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(home / "imgs" / f"{number}.png")
    (home / "net.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), "
        "nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))\n"
    )
    torch.manual_seed(0)
    torch.save(load_object(f"{home / 'net.py'}:make")().state_dict(), home / "w.pt")
    (home / "qat.yaml").write_text(
        f"model: {home}/w.pt\narchitecture: {{factory: '{home}/net.py:make', input_shape: [3, 32, 32]}}\n"
        f"data: {{calib_dir: {home}/imgs}}\nexport: {{exporter: legacy}}\n"
    )
