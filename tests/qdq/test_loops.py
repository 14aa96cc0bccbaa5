"""A network with an LSTM and convs in the branches of an If: quantized around them, and told."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import quantbench
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from quantbench.qdq.place import place
from tests.qdq.golden import parse


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Two convs, an If with a conv in each branch (one without a name), a GRU over the columns, an answer."""
    rng = np.random.default_rng(0)

    def stored(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), name)

    def branch(name: str, node: str) -> onnx.GraphProto:
        made = helper.make_node("Conv", ["b", f"{name}.w"], [f"{name}.y"], node, pads=[1, 1, 1, 1])
        value = helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, None)
        return helper.make_graph([made], name, [], [value], [stored(f"{name}.w", 16, 16, 3, 3)])

    nodes = [
        helper.make_node("Conv", ["x", "a.w"], ["a"], "conv_a", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "b.w"], ["b"], "conv_b", pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["b"], ["mean"], "mean", keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["is"], "greater"),
        helper.make_node("If", ["is"], ["c"], "branch", then_branch=branch("yes", "conv_yes"),
                         else_branch=branch("no", "")),
        helper.make_node("ReduceMean", ["c"], ["row"], "row", axes=[2], keepdims=0),
        helper.make_node("Transpose", ["row"], ["steps"], "steps", perm=[2, 0, 1]),
        helper.make_node("GRU", ["steps", "g.w", "g.r"], ["", "last"], "gru", hidden_size=16),
        helper.make_node("Squeeze", ["last", "first"], ["state"], "squeeze"),
        helper.make_node("Gemm", ["state", "fc.w"], ["y"], "fc"),
    ]  # fmt: skip
    constants = [stored("a.w", 16, 3, 3, 3), stored("b.w", 16, 16, 3, 3), stored("g.w", 1, 48, 16),
                 stored("g.r", 1, 48, 16), stored("fc.w", 16, 4), numpy_helper.from_array(np.float32(0), "zero"),
                 numpy_helper.from_array(np.array([0]), "first")]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])], constants)  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_runs_in_loops_and_branches_is_named_and_the_rest_is_quantized(model: onnx.ModelProto) -> None:
    images = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    made = quantbench.quantize(model, [images])
    assert {site.node for site in made.plan.weights} == {"conv_a", "conv_b"}
    kept = {name: why for name, why in made.plan.kept_float.items() if why.startswith("loops")}
    assert kept == {
        "gru": "loops: TensorRT runs GRU as a loop, in float",
        "conv_yes": "loops: in the body of branch, whose tensors have no ranges",
        "node_of_no.y": "loops: in the body of branch, whose tensors have no ranges",
    }
    plain, int8 = (create_session(m).run(None, {"x": images})[0] for m in (model, made.model))
    assert 10 * np.log10((plain**2).sum() / ((plain - int8) ** 2).sum()) > 30


def test_each_is_explained(cli, model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    for node, told in (("gru", "loops 1: an LSTM, GRU or RNN stays float"),
                       ("conv_yes", "stays float: loops: in the body of branch"),
                       ("node_of_no.y", "loops 2: so does a weighted op in a body")):  # fmt: skip
        code, printed, error = cli("explain-node", path, node)
        assert code == 0, error
        assert told in printed
    code, _, error = cli("explain-node", path, "conv_ye")
    assert code == 2
    assert "did you mean conv_yes?" in error


def test_a_run_says_it_before_it_calibrates(cli, model: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(model, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32))
    out = tmp_path / "run"
    code, _, error = cli("ptq", tmp_path / "m.onnx", "--calib-data", tmp_path / "x.npy", "--out", out, "--no-compile",
                         "--calibrator", "minmax", "--keep-float", "conv_yes")  # fmt: skip
    assert code == 0, error
    told, _, _ = error.partition("Calibrating")
    assert "gru, and 1 more stay float, in loops and branches" in told
    assert "keep_named: matches 'conv_yes'" in (out / "run.json").read_text()
    assert "TensorRT runs GRU as a loop, in float" in (out / "report.md").read_text()


def test_a_layer_that_only_a_body_reads_is_no_head() -> None:
    """Its reader stands in a branch of If, whose inputs do not list it."""
    text = """
x: 1x3x16x16
flag = ReduceMax(x) keepdims=0
whether = Cast(flag) to=9
first = Conv(x, 16x3x3x3) pads=1,1,1,1
branch = If(whether)
  then: inner = Conv(first, 16x16x1x1)
  else: same = Identity(first)
second = Conv(branch, 16x16x3x3)
last = Conv(second, 16x16x3x3)
-> last
"""
    view = view_of(parse(text)[0])
    assert [(reader.name, index) for reader, index in view.readers("first")] == [("branch", -1)]
    assert sorted({site.node for site in place(view).weights}) == ["first", "second"]
