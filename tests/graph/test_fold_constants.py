"""Weights that are computed from constants become constants; nothing else changes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.graph.fold_constants import fold_constants
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.graph.ops import WEIGHTED
from quantbench.qdq.place import place

RNG = np.random.default_rng(0)
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])


def model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], outputs: list[str]) -> onnx.ModelProto:
    found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8]) for name in outputs]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [X], found, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.arange(16, dtype=np.float32).reshape(2, 8)})


def test_half_transposed_scaled_and_shared_weights() -> None:
    nodes = [
        helper.make_node("Cast", ["half"], ["wide"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Transpose", ["wide"], ["turned"], perm=[1, 0], name="turn"),
        helper.make_node("Mul", ["turned", "gain"], ["w"], name="scale"),
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Identity", ["w"], ["w2"], name="share"),
        helper.make_node("MatMul", ["a", "w2"], ["b"], name="second"),
        helper.make_node("Add", ["b", "gain"], ["y"], name="third"),
    ]
    weights = {"half": RNG.standard_normal((8, 8)).astype(np.float16), "gain": np.float32([0.5])}
    before = model(nodes, weights, ["y"])
    expected = run(before)
    after = fold_constants(before)
    onnx.checker.check_model(after, full_check=True)
    assert [node.name for node in after.graph.node] == ["first", "second", "third"]
    assert sorted(t.name for t in after.graph.initializer) == ["gain", "w", "w2"]
    assert np.array_equal(run(after)[0], expected[0])


@pytest.mark.parametrize(
    ("nodes", "kept"),
    [
        # A graph output keeps its node.
        ([helper.make_node("Neg", ["w"], ["y"], name="out")], ["out"]),
        # Q and DQ of a weight are what placement and prediction are about.
        (
            [
                helper.make_node("QuantizeLinear", ["w", "s"], ["q"], name="q"),
                helper.make_node("DequantizeLinear", ["q", "s"], ["d"], name="dq"),
                helper.make_node("MatMul", ["x", "d"], ["y"], name="m"),
            ],
            ["q", "dq", "m"],
        ),
        # An activation is no constant.
        ([helper.make_node("Add", ["x", "w"], ["y"], name="add")], ["add"]),
    ],
)
def test_what_stays(nodes: list[onnx.NodeProto], kept: list[str]) -> None:
    weights = {"w": RNG.standard_normal((8, 8) if len(nodes) > 1 else (8,)).astype(np.float32), "s": np.float32(0.1)}
    after = fold_constants(model(nodes, weights, ["y"]))
    assert [node.name for node in after.graph.node] == kept
    assert {t.name for t in after.graph.initializer} == {"w", "s"}


def test_an_input_with_a_default_is_no_constant() -> None:
    nodes = [helper.make_node("Neg", ["w"], ["n"], name="neg"), helper.make_node("Add", ["x", "n"], ["y"], name="add")]
    given = model(nodes, {"w": np.ones(8, np.float32)}, ["y"])
    given.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8]))
    assert len(fold_constants(given).graph.node) == 2


def test_bodies_of_if_see_what_was_folded() -> None:
    def branch(op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(op, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["x", "n"], [op], name=op)], op, [], [out])

    nodes = [
        helper.make_node("Neg", ["w"], ["n"], name="neg"),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch("Add"), else_branch=branch("Sub"), name="if"),
    ]
    before = model(nodes, {"w": np.arange(8, dtype=np.float32), "yes": np.array(True)}, ["y"])
    expected = run(before)
    after = fold_constants(before)
    assert [node.name for node in after.graph.node] == ["if"]
    assert np.array_equal(run(after)[0], expected[0])


def test_a_detector_with_half_precision_storage_is_quantized() -> None:
    path = Path(__file__).parents[1] / "data" / "models" / "digit-detector.onnx"
    raw = onnx.load(str(path))
    assert any(node.op_type == "Cast" for node in raw.graph.node)
    loaded = load_model(path)
    view = view_of(loaded)
    assert len(place(view).weights) == 21
    assert sum(node.op in WEIGHTED for node in view.nodes) == 26
    image = RNG.random((1, 3, 320, 320), np.float32)
    sessions = [
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]) for m in (raw, loaded)
    ]
    first, second = (session.run(None, {"images": image})[0] for session in sessions)
    assert np.array_equal(first, second)
