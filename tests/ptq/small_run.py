"""Three layers and eight arrays: a whole PTQ run in a fraction of a second, and what must hold after it."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantbench.cache.tensorrt import parse
from quantbench.compilation.request import CompileRequest
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress
from quantbench.ptq import calibrate
from quantbench.ptq.pipeline import run_ptq
from quantbench.ptq.request import DataChoice, EvaluationChoice, ModelChoice, PtqRequest
from quantbench.records.run import PtqRun, load_run

OUTPUTS = ("ranges.json", "calibration.cache", "model.qdq.onnx", "model.ort.onnx", "evaluation.json")
# A calibrator that brings its own images, all of one value.
OWN = """
import numpy as np
from quantbench.calibrator import Calibrator


class Own(Calibrator):
    method = "minmax"

    def restart(self):
        self.left = 2

    def get_batch(self, names):
        self.left -= 1
        return [np.full((1, 3, 8, 8), {value}, np.float32)] if self.left >= 0 else None
"""
LAYERS = ("conv1", "conv2", "fc")


def write_model(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    weights = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (4, 8), "b3": (4,)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_data(path: Path, seed: int = 1, files: int = 2) -> Path:
    path.mkdir(exist_ok=True)
    for number in range(files):
        array = np.random.default_rng(seed + number).normal(size=(4, 3, 8, 8)).astype(np.float32)
        np.save(path / f"{number}.npy", array)
    return path


def run(folder: Path, out: Path, **more: Any) -> PtqRun:
    """One call on `folder`/m.onnx and `folder`/data; options of `run_ptq` and fields of the request by name."""
    how = {name: more.pop(name) for name in ("overwrite", "cache") if name in more}
    data = {name: more.pop(name) for name in ("max_images",) if name in more}
    model = more.pop("model", folder / "m.onnx")
    more.setdefault("calibrator", "minmax")
    request = PtqRequest(
        model=ModelChoice(str(model)), data=DataChoice(more.pop("calib_dir", folder / "data"), **data), out=out,
        evaluation=EvaluationChoice(more.pop("eval_dir", None)), latency=False, compile=CompileRequest("none"), **more,
    )  # fmt: skip
    run_ptq(request, Progress("none"), **how)
    return holds(out)


def holds(out: Path) -> PtqRun:
    """The record of `out`, after checking that it speaks of what the folder holds."""
    record = load_run(out)
    assert isinstance(record, PtqRun)
    for stage in record.stages.values():
        for output in stage.outputs:
            content = (out / output.path).read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (output.sha256, output.bytes), output.path
    ranges = json.loads((out / "ranges.json").read_text())["tensors"]
    judged = record.calibration.judged
    assert {r["method"] for r in ranges.values()} == {judged.taken if judged else record.calibration.method}
    amax = {name: r["amax"] for name, r in ranges.items()}
    for entry in parse((out / "calibration.cache").read_text()).entries:
        assert np.float32(entry.scale) == np.float32(amax[entry.name] / 127)
    model = onnx.load(str(out / "model.qdq.onnx"))
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    seen = 0
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in amax:
            assert constants[node.input[1]] == np.float32(amax[node.input[0]] / 127)
            seen += 1
    assert seen == record.placement.tensors
    dequantized = {o for node in model.graph.node if node.op_type == "DequantizeLinear" for o in node.output}
    quantized = {n.name for n in model.graph.node if n.name in LAYERS and n.input[1] in dequantized}
    assert quantized == set(record.placement.quantized)
    found = json.loads((out / "evaluation.json").read_text())
    assert found["outputs"]["sqnr_db"]["value"] == record.evaluation.outputs.sqnr_db.value
    assert not list(out.rglob("*.part"))
    assert not (out / ".quantbench" / "new").exists()
    assert not (out / ".quantbench" / "commit.json").exists()
    return record


def outputs(out: Path) -> dict[str, bytes]:
    """What the stages left in `out`."""
    return {name: (out / name).read_bytes() for name in OUTPUTS}


def main() -> None:
    """FOLDER OUT [refresh] [auto]: one call, for a process of its own, which keeps its counts after every batch."""
    folder, out, *words = sys.argv[1:]
    calibrate._SAVE_EVERY_SECONDS = 0
    try:
        more = {"calibrator": "auto"} if "auto" in words else {}
        run(Path(folder), Path(out), batch_size=2, cache="refresh" if "refresh" in words else "check", **more)
    except QuantbenchError as error:
        print(error)
        sys.exit(2)
