"""Networks with plugins: calibrated as far as onnxruntime can run them, quantized, carried through as they came."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from quantbench.compilation.request import CompileRequest
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model
from quantbench.graph.plugins import cut_before
from quantbench.progress import Progress
from quantbench.ptq.pipeline import run_ptq
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest
from quantbench.qdq.options import PlacementOptions
from quantbench.records.compiled import Refused
from quantbench.records.run import PtqRun
from quantbench.runnable import told
from tests.ptq import plugin_models


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    np.save(folder / "0.npy", np.random.default_rng(5).normal(size=(16, 3, 16, 16)).astype(np.float32))
    return folder


def quantized(model: Path, data: Path, out: Path, backend: str = "none", **placement: tuple[str, ...]) -> PtqRun:
    request = PtqRequest(
        ModelChoice(str(model)), DataChoice(data), out=out, latency=False, compile=CompileRequest(backend),
        calibrator="minmax",
        placement=PlacementOptions(**placement),
    )  # fmt: skip
    return run_ptq(request, Progress("none"))[1]


def made_by(model: onnx.ModelProto, tensor: str) -> str:
    return next((node.op_type for node in model.graph.node if tensor in node.output), "")


@pytest.mark.parametrize(("half", "domain"), [(False, ""), (True, ""), (False, "TRT")])
def test_suppression_at_the_end_stands_behind_the_same_int8_network(
    tmp_path: Path, data: Path, half: bool, domain: str
) -> None:
    """The network without its NMS is quantized beside it: same layers, same ranges, same figures."""
    path = plugin_models.write(tmp_path / "m.onnx", "end", half=half, domain=domain)
    record = quantized(path, data, tmp_path / "run")
    bare = quantized(plugin_models.write(tmp_path / "bare.onnx", "none", half=half), data, tmp_path / "bare")
    assert record.placement == bare.placement
    assert (tmp_path / "run" / "ranges.json").read_bytes() == (tmp_path / "bare" / "ranges.json").read_bytes()
    assert [(part.output, part.sqnr) for part in record.evaluation.parts] == [
        (part.output, part.sqnr) for part in bare.evaluation.parts
    ]
    assert [part.name for part in record.evaluation.parts] == ["boxes, boxes", "scores, class scores"]
    assert record.evaluation.boxes is not None
    assert record.evaluation.boxes.format == "suppressed"
    assert record.evaluated_on.what.endswith("; outputs end before plugin nms")
    before, after = onnx.load(str(path)), onnx.load(str(tmp_path / "run" / "model.qdq.onnx"))
    assert before.graph.node[-1] in after.graph.node
    assert list(after.graph.output) == list(before.graph.output)
    assert {entry.domain for entry in after.opset_import} >= {entry.domain for entry in before.opset_import}
    twin = ort.InferenceSession(str(tmp_path / "run" / "model.ort.onnx"), providers=["CPUExecutionProvider"])
    assert [value.name for value in twin.get_outputs()] == ["boxes", "scores"]


def test_rtx_refuses_a_plugin_in_one_line_and_the_run_goes_on(tmp_path: Path, data: Path) -> None:
    path = plugin_models.write(tmp_path / "m.onnx", "end")
    compiled = quantized(path, data, tmp_path / "run", "auto").compiled
    assert isinstance(compiled, Refused)
    assert "TensorRT-RTX" in compiled.failed
    assert "node nms (EfficientNMS_TRT): no plugin of that name is loaded (--plugin" in compiled.failed
    with pytest.raises(QuantbenchError, match=r"cannot build the INT8 model: node nms \(EfficientNMS_TRT\)"):
        quantized(path, data, tmp_path / "named", "tensorrt-rtx")


@pytest.mark.parametrize("half", [False, True])
def test_what_is_behind_a_plugin_in_the_middle_stays_float(tmp_path: Path, data: Path, half: bool) -> None:
    path = plugin_models.write(tmp_path / "m.onnx", "middle", half=half)
    record = quantized(path, data, tmp_path / "run")
    assert record.placement.quantized == ("conv1", "conv2")
    for name in ("conv3", "boxes_conv", "scores_conv"):
        assert record.placement.kept_float[name] == "plugin: behind deform, which cannot be run here: no range"
    assert [part.name for part in record.evaluation.parts] == ["c", "b"]
    assert told(load_model(path)) == (
        "onnxruntime cannot run plugin deform (DCNv2_TRT): calibration and evaluation end before it, at c, b; nothing "
        "of the 10 nodes behind it is calibrated"
    )
    before, after = onnx.load(str(path)), onnx.load(str(tmp_path / "run" / "model.qdq.onnx"))
    kept = {node.name: node for node in after.graph.node}
    assert all(kept[node.name] == node for node in before.graph.node if node.name not in ("conv1", "conv2"))


def test_operators_of_onnxruntime_are_run(tmp_path: Path, data: Path) -> None:
    record = quantized(plugin_models.write(tmp_path / "m.onnx", "contrib"), data, tmp_path / "run")
    assert record.placement.quantized == ("conv1", "conv2", "conv3")
    assert [part.name for part in record.evaluation.parts] == ["boxes", "scores"]
    assert "plugin" not in record.evaluated_on.what


def test_a_plugin_that_takes_int8(tmp_path: Path, data: Path) -> None:
    path = plugin_models.write(tmp_path / "m.onnx", "middle")
    record = quantized(path, data, tmp_path / "pair", plugin_int8=("DCN*",))
    model = onnx.load(str(tmp_path / "pair" / "model.qdq.onnx"))
    plugin = next(node for node in model.graph.node if node.name == "deform")
    assert [made_by(model, name) for name in plugin.input] == ["DequantizeLinear"] * 2
    assert record.placement.rules["plugin"] == 2
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    feed = {"x": np.load(data / "0.npy")}
    seen = ort.InferenceSession(cut_before(load_model(path), {"deform"}).SerializeToString()).run(None, feed)
    for name, values in zip(("c", "b"), seen, strict=True):
        assert scales[f"{name}_scale"] == pytest.approx(np.abs(values).max() / 127, rel=1e-4)

    quantized(path, data, tmp_path / "tensors", plugin_tensors=("deform",))
    model = onnx.load(str(tmp_path / "tensors" / "model.qdq.onnx"))
    plugin = next(node for node in model.graph.node if node.name == "deform")
    assert [made_by(model, name) for name in plugin.input] == ["QuantizeLinear"] * 2


@pytest.mark.parametrize(
    ("where", "given", "words"),
    [
        ("end", "deform=int8", r"no such plugin, but nms \(EfficientNMS_TRT\)"),
        ("none", "nms=int8", "the model has no plugin"),
        ("end", "nms=fp8", "is not NAME= and one of int8, int8-tensor, float"),
        ("contrib", "gelu=int8-tensor", "has it for float tensors only"),
        ("first", "prepare=float", r"every Conv, .* kept float: plugin: behind prepare, .*no range \(5\)"),
        ("two", "second=int8", "second reads d, which lies behind deform and has no range"),
    ],
)
def test_what_no_plugin_can_have_is_refused(
    tmp_path: Path, data: Path, cli, where: str, given: str, words: str
) -> None:
    path = plugin_models.write(tmp_path / "m.onnx", where)
    code, _, error = cli("ptq", path, "--calib-dir", data, "--out", tmp_path / "run", "--plugin-precision", given)
    assert code == 2
    assert error.count("error:") == 1
    assert re.search(words, error), error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["end", "middle"])
def test_the_other_roads_carry_plugins_through(tmp_path: Path, data: Path, cli, where: str) -> None:
    path = plugin_models.write(tmp_path / "m.onnx", where)
    run = tmp_path / "run"
    quantized(path, data, run)
    plugin = {"end": "nms", "middle": "deform"}[where]
    code, out, _ = cli("predict", run / "model.qdq.onnx")
    assert code == 0
    assert re.search(rf"\n{plugin}\s+\w+_TRT", out)
    assert cli("lint", run / "model.qdq.onnx")[0] in (0, 1)
    assert cli("explain-node", path, plugin)[0] == 0
    code, _, error = cli("cache", "to-qdq", run / "calibration.cache", path, "-o", tmp_path / "q.onnx")
    assert code == 0, error
    before, after = onnx.load(str(run / "model.qdq.onnx")), onnx.load(str(tmp_path / "q.onnx"))
    convs = [{n.name for n in m.graph.node if n.op_type == "Conv" and "deq" in n.input[0]} for m in (before, after)]
    assert convs[0] == convs[1]
    code, out, error = cli("eval", path, run / "model.qdq.onnx", "--data", data)
    assert code == 0, error
    assert f"onnxruntime cannot run plugin {plugin}" in error
    if where == "middle":
        return
    code, out, error = cli("tune", path, "--data", data, "--min-sqnr", "20", "--out", tmp_path / "tuned")
    assert code == 0, error
