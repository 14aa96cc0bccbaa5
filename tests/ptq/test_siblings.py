"""Whole runs on the kinds of model that people have: half precision in all its forms, uint8 input, channels last."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.compilation.request import CompileRequest
from quantbench.engines.base import BuildOptions
from quantbench.progress import Progress
from quantbench.ptq.pipeline import run_ptq
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest
from quantbench.records.compiled import Compiled
from quantbench.records.run import PtqRun
from tests.graph import networks

RTX = CompileRequest("tensorrt-rtx", BuildOptions(targets=("sm86",)))


def whole_run(model: onnx.ModelProto, data: Path, folder: Path, compiling: CompileRequest) -> PtqRun:
    onnx.save(model, str(folder / "m.onnx"))
    request = PtqRequest(ModelChoice(str(folder / "m.onnx")), DataChoice(data), calibrator="minmax", latency=False,
                         out=folder / "run", compile=compiling)  # fmt: skip
    return run_ptq(request, Progress("none"))[1]


@pytest.mark.parametrize("name", sorted(networks.HALF))
def test_half_models_end_to_end(name: str, tmp_path: Path) -> None:
    """Types at the ends as they came, two of three convs in INT8; one of the siblings through TensorRT-RTX as well."""
    np.save(tmp_path / "x.npy", np.random.default_rng(2).normal(size=(4, 3, 8, 8)).astype(np.float32))
    source = networks.HALF[name]()
    compiling = RTX if name == "half_inside" else CompileRequest("none")
    record = whole_run(source, tmp_path / "x.npy", tmp_path, compiling)
    assert record.placement.quantized == ("a", "b")
    assert record.evaluation.outputs.sqnr_db.value > 20
    written = onnx.load(str(tmp_path / "run" / "model.qdq.onnx"))
    onnx.checker.check_model(written, full_check=True)
    for kind in ("input", "output"):
        before, after = (getattr(m.graph, kind)[0].type.tensor_type.elem_type for m in (source, written))
        assert after == before
    if compiling is RTX:
        assert isinstance(record.compiled, Compiled)


def camera(layout: str, dtype: int) -> onnx.ModelProto:
    """Convs behind what turns a camera's picture into floats: a Cast of uint8, a Transpose of channels last."""
    rng = np.random.default_rng(0)
    shape: list[int | str] = ["n", 32, 32, 3] if layout == "NHWC" else ["n", 3, 32, 32]
    nodes, last = [], "x"
    if dtype == TensorProto.UINT8:
        nodes.append(helper.make_node("Cast", [last], ["f"], "cast", to=TensorProto.FLOAT))
        last = "f"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [last], ["t"], "turn", perm=[0, 3, 1, 2]))
        last = "t"
    sizes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 8, 3, 3)}
    stored = [numpy_helper.from_array(rng.normal(0, 0.1, size).astype(np.float32), n) for n, size in sizes.items()]
    for index, out in enumerate("abc", start=1):
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [out], f"conv{index}", pads=[1, 1, 1, 1]))
        last = out
    graph = helper.make_graph(
        nodes, "camera", [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n", 8, 32, 32])], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("layout", "dtype"), [("NCHW", TensorProto.UINT8), ("NHWC", TensorProto.UINT8),
                                               ("NHWC", TensorProto.FLOAT)])  # fmt: skip
def test_uint8_and_channels_last_end_to_end(layout: str, dtype: int, tmp_path: Path, pictures: Path) -> None:
    record = whole_run(camera(layout, dtype), pictures, tmp_path, RTX)
    assert record.placement.quantized == ("conv1", "conv2")
    assert record.evaluation.outputs.sqnr_db.value > 20
    assert layout in record.preprocess.words
    assert ("uint8" in record.preprocess.words) is (dtype == TensorProto.UINT8)
    assert isinstance(record.compiled, Compiled)
