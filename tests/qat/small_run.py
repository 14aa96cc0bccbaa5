"""A whole qat-export run of a tiny network with two epochs of training in a second or two, and what must hold of it."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from quantbench.compilation.request import CompileRequest
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress
from quantbench.qat.options import TrainOptions
from quantbench.qat.pipeline import run_qat_export
from quantbench.qat.request import CalibrationChoice, QatRequest, TorchChoice, TrainingChoice
from quantbench.qat.stages import RANGES, TRAINED, read_ranges
from quantbench.qat.to_onnx import ExportOptions
from quantbench.qdq.options import PlacementOptions
from quantbench.recipe import Architecture
from quantbench.records.run import QatRun, load_run

NETWORK = """
from torch import nn

def tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )
"""


def write_home(folder: Path) -> Path:
    """net.py, net.pth and data/ with train/ and val/ of three classes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(NETWORK)
    scope: dict[str, Any] = {}
    exec(NETWORK, scope)
    torch.manual_seed(0)
    torch.save(scope["tiny"]().state_dict(), folder / "net.pth")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for label in range(3):
            target = folder / "data" / split / str(label)
            target.mkdir(parents=True)
            for index in range(count):
                picture = rng.integers(0, 120, size=(20, 20, 3), dtype=np.uint8)
                picture[..., label] += 100
                Image.fromarray(picture).save(target / f"{index}.png")
    return folder


def request(home: Path, out: Path, **more: Any) -> QatRequest:
    """The request for `home` with fields of its parts by name."""
    rate, epochs, resume = more.pop("rate", 0.01), more.pop("epochs", 2), more.pop("resume", False)
    options = TrainOptions(epochs=epochs, batch=8, rate=rate, workers=0, **more.pop("training", {}))
    return QatRequest(
        TorchChoice(str(home / "net.pth"), None, Architecture(factory=f"{home / 'net.py'}:tiny",
                                                              input_shape=(3, 16, 16))),
        CalibrationChoice(max_images=8, batch_size=4, method=more.pop("method", "minmax")),
        placement=PlacementOptions(keep_float=more.pop("keep_float", ())),
        training=TrainingChoice(home / "data", options, resume) if epochs else None,
        export=ExportOptions("legacy", int8_weights=more.pop("int8_weights", False)),
        compile=CompileRequest("none"), out=out, device="cpu", recipe={"seed": 0}, **more,
    )  # fmt: skip


def run(home: Path, out: Path, *, overwrite: bool = False, **more: Any) -> QatRun:
    """One call, and its record after a check against the folder."""
    run_qat_export(request(home, out, **more), Progress("none"), overwrite=overwrite)
    return holds(out)


def holds(out: Path) -> QatRun:
    """The record of `out`, after checking that it speaks of what the folder holds."""
    record = load_run(out)
    assert isinstance(record, QatRun)
    for stage in record.stages.values():
        for output in stage.outputs:
            content = (out / output.path).read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (output.sha256, output.bytes), output.path
    ranges = read_ranges(out / RANGES)
    assert {r.tensor: r.amax for r in record.ranges} == {name: ranges[name].amax for name in ranges}
    model = onnx.load(str(out / record.exported.file))
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    scales = {float(constants[n.input[1]].reshape(-1)[0]) for n in model.graph.node if n.op_type == "QuantizeLinear"
              and n.input[0] not in constants}  # fmt: skip
    assert sorted(scales) == pytest.approx(sorted({ranges[name].amax / 127 for name in ranges}), rel=1e-6)
    assert (record.training is not None) == ("train" in record.stages) == (out / TRAINED).exists()
    if record.training is not None:
        assert record.training.epochs == len(record.training.history)
        trained = torch.load(out / TRAINED, weights_only=True)
        biases = [array for array in constants.values() if array.shape == (3,) and array.dtype == np.float32]
        assert any(np.array_equal(array, trained["8.bias"].numpy()) for array in biases)
    assert not list(out.rglob("*.part"))
    assert not (out / ".quantbench" / "new").exists()
    return record


def main() -> None:
    """HOME OUT [resume]: one call, for a process of its own."""
    home, out, *words = sys.argv[1:]
    torch.set_num_threads(1)
    try:
        run(Path(home), Path(out), resume="resume" in words)
    except QuantbenchError as error:
        print(error)
        sys.exit(2)
