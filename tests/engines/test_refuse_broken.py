"""Files over which TensorRT-RTX's parser segfaults are refused before it sees them; what it takes, it gets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.engines.base import BuildOptions
from quantbench.engines.build import build_engine
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model
from quantbench.lint.run import lint
from tests.engines.test_apart import RTX, write_crashing


def network(op: str, outputs: Sequence[str] = ("y",), *, attributes: Any = None, **parameters: Any) -> onnx.ModelProto:
    """x through Relu and `op`, which reads `parameters` besides."""
    nodes = [helper.make_node("Relu", ["x"], ["r"], "relu"),
             helper.make_node(op, ["r", *parameters], outputs, "it", **(attributes or {}))]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info((*outputs, "y")[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in parameters.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# Each ended `quantbench build` with exit code 139.
@pytest.mark.parametrize(
    ("model", "said"),
    [
        (network("Slice", starts=0, ends=[4], axes=[1]), "(Slice): its starts has 0 dimensions where ONNX has a list"),
        (network("Slice", starts=[0], ends=[4], axes=[1], steps=[[1]]), "(Slice): its steps has 2 dimensions"),
        (network("Split", ("y", "z"), attributes={"axis": 1}, sizes=[]), "(Split) has 2 outputs, and 'sizes' has 0"),
        (network("TopK", ("y", "i"), k=[]), "(TopK) cannot take 'k', of 0 values in place of one"),
        (network("TopK", k=[2]), "(TopK) has 1 outputs"),
        (network("Sigmoid", ()), "(Sigmoid) writes nothing"),
    ],
)
def test_files_that_kill_the_parser_are_refused_before(cli, model: onnx.ModelProto, said: str, tmp_path: Path) -> None:
    onnx.save(model, str(tmp_path / "m.onnx"))
    code, out, err = cli("build", tmp_path / "m.onnx", *RTX)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert f"m.onnx: node it {said}" in err
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    "model",
    [
        network("TopK", ("y", "i"), k=2),
        network("Squeeze", axes=0),
        network("Slice", starts=[0], ends=[4], axes=1),
    ],
)
def test_what_the_parser_takes_is_built_whatever_the_standard_says(model: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(model, str(tmp_path / "m.onnx"))
    assert build_engine(tmp_path / "m.onnx", BuildOptions(), "tensorrt-rtx").engine[:4] == b"vtrt"


def test_what_onnxruntime_runs_stays_a_model_with_a_finding(cli, tmp_path: Path) -> None:
    """It drops a Slice that cuts nothing, whatever its lists are: the run is made, and `lint` tells."""
    path = write_crashing(tmp_path / "m.onnx")
    (finding,) = (found for found in lint(load_model(path)) if found.rule == "no-list")
    assert finding.node == "cut"
    assert "its starts has 0 dimensions" in finding.message
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32))
    words = ("ptq", path, "--calib-data", tmp_path / "x.npy", "--out", tmp_path / "run", "--threads", "1")
    code, _, err = cli(*words)
    assert code == 0, err
    assert "no compiler check: the INT8 model: node cut (Slice): its starts has 0 dimensions" in err


def test_lists_in_bodies_are_looked_at(tmp_path: Path) -> None:
    inner = network("Slice", starts=0, ends=[4], axes=[1]).graph
    body = helper.make_graph(list(inner.node)[1:], "body", [], list(inner.output))
    nodes = [inner.node[0], helper.make_node("If", ["c"], ["z"], "if", then_branch=body, else_branch=body)]
    graph = helper.make_graph(nodes, "g", list(inner.input), [helper.make_tensor_value_info("z", 1, None)],
                              [*inner.initializer, numpy_helper.from_array(np.array(True), "c")])  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(QuantbenchError, match=r"node it \(Slice\): its starts has 0 dimensions"):
        build_engine(tmp_path / "m.onnx", BuildOptions(), "tensorrt-rtx")
