"""Torch models that hold plugins: functions and operators that the export writes as nodes of someone's own."""

import re
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from PIL import Image

from quantbench.compilation.request import CompileRequest
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress
from quantbench.qat.checks import quantized_nodes
from quantbench.qat.pipeline import run_qat_export
from quantbench.qat.request import CalibrationChoice, QatRequest, TorchChoice
from quantbench.qat.to_onnx import ExportOptions
from quantbench.qdq.options import PlacementOptions
from quantbench.recipe import Architecture
from quantbench.records.evaluation import Measured
from quantbench.records.qat import Agreement
from quantbench.records.run import QatRun

NETWORK = """
import torch
from torch import nn

class Nms(torch.autograd.Function):
    @staticmethod
    def forward(ctx, boxes, scores):
        n = len(boxes)
        return (torch.zeros(n, 1, dtype=torch.int32), torch.zeros(n, 20, 4), torch.zeros(n, 20),
                torch.zeros(n, 20, dtype=torch.int32))

    @staticmethod
    def symbolic(g, boxes, scores):
        return g.op("TRT::EfficientNMS_TRT", boxes, scores, score_threshold_f=0.25, iou_threshold_f=0.45,
                    max_output_boxes_i=20, background_class_i=-1, outputs=4)

class Act(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * torch.sigmoid(1.7 * x)

    @staticmethod
    def symbolic(g, x):
        return g.op("trt.plugins::FancyAct_TRT", x, alpha_f=1.7).setType(x.type())

def fancy(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.7 * x)

if not hasattr(torch.ops.quantbench_tests, "fancy"):
    fancy_op = torch.library.custom_op("quantbench_tests::fancy", fancy, mutates_args=())
    fancy_op.register_fake(lambda x: torch.empty_like(x))

class Net(nn.Module):
    def __init__(self, where):
        super().__init__()
        self.where = where
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.c, self.box, self.cls = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 4, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x):
        x = self.b(torch.relu(self.a(x)))
        if self.where == "middle":
            x = Act.apply(x)
        if self.where == "operator":
            x = torch.ops.quantbench_tests.fancy(x)
        x = torch.relu(self.c(x))
        boxes, scores = (f(x).flatten(2).transpose(1, 2) for f in (self.box, self.cls))
        return Nms.apply(boxes, scores.sigmoid()) if self.where == "end" else (boxes, scores)

def end(): return Net("end")
def middle(): return Net("middle")
def operator(): return Net("operator")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "net.py").write_text(NETWORK)
    scope: dict[str, Any] = {"__name__": "net"}
    exec(NETWORK, scope)
    torch.manual_seed(0)
    torch.save(scope["end"]().state_dict(), folder / "net.pth")
    (folder / "images").mkdir()
    for seed in range(4):
        pixels = torch.randint(0, 255, (16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
        Image.fromarray(pixels.numpy()).save(folder / "images" / f"{seed}.png")
    return folder


def exported(home: Path, out: Path, where: str, exporter: str, **placement: Any) -> QatRun:
    model = TorchChoice(str(home / "net.pth"), None, Architecture(factory=f"{home / 'net.py'}:{where}",
                                                                  input_shape=(3, 16, 16)), trust=True)  # fmt: skip
    request = QatRequest(
        model, CalibrationChoice(home / "images", batch_size=4), placement=PlacementOptions(**placement),
        export=ExportOptions(exporter=exporter), compile=CompileRequest("none"), out=out,
        recipe={"seed": 0},
    )  # fmt: skip
    record = run_qat_export(request, Progress("none"))[1]
    assert record is not None
    return record


def decibels(against: Agreement) -> float:
    assert isinstance(against.sqnr_db, Measured)
    return against.sqnr_db.value


@pytest.mark.parametrize(("where", "op"), [("end", "EfficientNMS_TRT"), ("middle", "FancyAct_TRT")])
def test_a_plugin_is_exported_in_float_and_what_is_behind_it_quantized(
    home: Path, tmp_path: Path, where: str, op: str, capfd: pytest.CaptureFixture[str]
) -> None:
    record = exported(home, tmp_path / "run", where, "legacy")
    model = onnx.load(str(tmp_path / "run" / "net.qdq.onnx"))
    (plugin,) = (node for node in model.graph.node if node.op_type == op)
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    assert {made[name] for name in plugin.input}.isdisjoint({"QuantizeLinear", "DequantizeLinear"})
    # torch runs the plugin, so that unlike in `ptq` the conv behind it has a range.
    assert [re.sub(r"\W|Conv", "", name) for name in quantized_nodes(model)[0]] == ["a", "b", "c"]
    for against in (record.against_torch, record.against_float):
        assert against.images == 4
        assert against.largest_output > 0.01  # not the zeros that forward makes
    assert decibels(record.against_torch) > 50
    assert 20 < decibels(record.against_float) < decibels(record.against_torch)
    assert capfd.readouterr().err == ""  # torch warns of each such node


@pytest.mark.parametrize(
    ("where", "exporter", "words"),
    [
        ("end", "dynamo", r"what Nms\.forward computes, and that hangs on no input; take --exporter legacy"),
        ("operator", "dynamo", r"no ONNX form of operator quantbench_tests::fancy; .*--exporter legacy"),
        ("operator", "legacy", r"no ONNX form of operator quantbench_tests::fancy; .*register_custom_op_symbolic"),
    ],
)
def test_what_no_exporter_can_write_is_refused_with_a_way_out(
    home: Path, tmp_path: Path, where: str, exporter: str, words: str
) -> None:
    with pytest.raises(QuantbenchError, match=words) as error:
        exported(home, tmp_path / "run", where, exporter)
    assert "\n" not in str(error.value)


def test_the_way_out_works(home: Path, tmp_path: Path) -> None:
    """An operator of torch.library with a symbolic, registered as the message says."""
    name = "quantbench_tests::fancy"
    torch.onnx.utils.register_custom_op_symbolic(
        name, lambda g, x: g.op("trt.plugins::FancyAct_TRT", x, alpha_f=1.7).setType(x.type()), 17
    )
    try:
        record = exported(home, tmp_path / "run", "operator", "legacy")
    finally:
        torch.onnx.utils.unregister_custom_op_symbolic(name, 17)
    assert decibels(record.against_torch) > 50
    assert len(record.exported.quantized) == 3


def test_int8_plugins_are_the_business_of_ptq(home: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"take placement\.plugin_precision out of the recipe, or"):
        exported(home, tmp_path / "run", "middle", "legacy", plugin_int8=("*",))
