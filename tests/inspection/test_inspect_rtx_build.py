"""ResNet-18 placed by quantbench, compiled by the real TensorRT-RTX builder (no GPU), inspected from what it left."""

import json
from pathlib import Path

import onnx
import pytest

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.demo.resnet18 import build as resnet18
from quantbench.engines.base import BuildOptions
from quantbench.engines.tensorrt_rtx import build
from quantbench.graph.onnx_view import view_of
from quantbench.inspection.detect import detect
from quantbench.inspection.gather import gather
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.layer_line import read_rtx_layers
from quantbench.inspection.page.render import page
from quantbench.inspection.table import rows
from quantbench.inspection.verdicts.judge import judge
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.qdq.onnx, build.log, layers.json and the engine."""
    folder = tmp_path_factory.mktemp("r18")
    model = resnet18(batch=8)
    plan = place(view_of(model))
    onnx.save(insert_qdq(model, plan, Ranges({t: TensorRange(3.0) for t in plan.tensors})), folder / "model.qdq.onnx")
    result = build(folder / "model.qdq.onnx", BuildOptions(log_file=folder / "build.log"))
    layers = read_rtx_layers(result.log_lines())
    (folder / "layers.json").write_text(json.dumps([layer.to_json() for layer in layers]))
    (folder / "r18.bin").write_bytes(result.engine)
    return folder


@pytest.fixture(scope="module")
def inspection(run: Path) -> Inspection:
    (found,) = gather([run])
    return found


def test_the_run_folder_joins_into_one_engine(inspection: Inspection, run: Path) -> None:
    assert [s.path.name for s in inspection.sources] == ["layers.json", "build.log", "model.qdq.onnx"]
    assert inspection.version.startswith("RTX 1.")
    text = (run / "build.log").read_text(encoding="utf-8", errors="replace")
    assert len(inspection.layers) == sum(", LayerType: " in line for line in text.split("\n"))


def test_the_log_is_understood(inspection: Inspection) -> None:
    assert inspection.log is not None
    assert inspection.log.kinds["unknown"] <= 0.005 * inspection.log.lines


def test_it_tells_which_convs_lack_int8_outputs_and_why(inspection: Inspection) -> None:
    """All 20 convs of ResNet-18: RTX puts every conv's epilogue, with its Q, into a kernel of its own."""
    verdict = next(v for v in judge(inspection) if v.rule == "int8_in_float_out")
    convs = {name for name, op in (inspection.model.ops if inspection.model else {}).items() if op == "Conv"}
    items = [item for item in verdict.items if item.name in convs]
    assert {item.name for item in items} == convs
    assert len(convs) == 20
    for item in items:
        assert "INT8 in, FP32 out" in item.detail
        assert "compiled into the pointwise kernel behind it" in item.detail
        assert "QuantizeLinear" in item.detail


def test_every_q_and_dq_is_traced(inspection: Inspection) -> None:
    assert inspection.model is not None
    assert {f.name for f in inspection.fates} == {n.name for n in inspection.model.nodes}
    assert all(f.status != "not traced" for f in inspection.fates)


def test_kernels_before_and_behind_a_conv_say_so(inspection: Inspection) -> None:
    labels = [row.label for row in rows(inspection)]
    first = next(i for i, name in enumerate(labels) if name == "/conv1/Conv")
    assert labels[first - 1] == "input of /conv1/Conv"
    assert "/relu/Relu" in labels[first + 1]


def test_page_and_engine(inspection: Inspection, run: Path) -> None:
    assert "take INT8 and give float" in page(inspection)
    assert detect(run / "r18.bin").kind == "engine"
