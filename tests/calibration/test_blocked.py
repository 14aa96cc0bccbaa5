"""Sessions that give activations out as convolutions write them: the same values, rearranged less often."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.calibration.blocked import create_blocked_session, pass_through_quantizers
from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.demo import resnet18
from quantbench.evaluate.layers import layer_errors
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session, run
from quantbench.qdq.correct_bias import correct_bias
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from quantbench.qdq.simulate import simulated

RNG = np.random.default_rng(7)


def inner_tensors(model: onnx.ModelProto) -> list[str]:
    inputs = {value.name for value in model.graph.input}
    return [name for name in place(view_of(model)).tensors if name not in inputs]


def rearrangements(model: onnx.ModelProto, outputs: list[str], folder: Path) -> int:
    create_session(model, outputs=outputs, optimized=folder / "m.onnx")
    nodes = onnx.load(folder / "m.onnx", load_external_data=False).graph.node
    return sum(node.op_type == "ReorderOutput" for node in nodes)


@pytest.mark.parametrize("width", [16, 24, 8])
def test_values_are_the_same_to_the_bit(width: int, tmp_path: Path) -> None:
    """Also where channels (24, 8) end within a block, whose rest holds zeros that the network has not."""
    model = resnet18.build(width=width, size=32, classes=10)
    outputs = inner_tensors(model)
    if not rearrangements(model, outputs, tmp_path):
        pytest.skip("onnxruntime's convolutions do not block channels on this processor")
    session, given = create_blocked_session(model, outputs, outputs, threads=1)
    feed = {"image": RNG.normal(size=(3, 3, 32, 32)).astype(np.float32)}
    ordered = run(create_session(model, threads=1, outputs=outputs), None, feed)
    for name, values, other in zip(outputs, ordered, run(session, given, feed), strict=True):
        assert values.shape == other.shape, name
        np.testing.assert_array_equal(np.sort(values, axis=None), np.sort(other, axis=None), err_msg=name)
    spared = sum(name != other for name, other in zip(outputs, given, strict=True))
    assert spared >= len(outputs) // 2
    assert len(set(given)) == len(given)


def test_a_batch_that_is_static_is_cut_at_its_images() -> None:
    """Padding by repetition must not be counted, however elements of an image stand."""
    model = resnet18.build(width=16, size=32, classes=10)
    images = RNG.normal(size=(6, 3, 32, 32)).astype(np.float32)
    tensors = place(view_of(model)).tensors
    expected = collect(model, [{"image": images}], tensors, threads=1)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    found = collect(model, [{"image": images[:4]}, {"image": images[4:]}], tensors, threads=1)
    assert {name: h.total for name, h in found.items()} == {name: h.total for name, h in expected.items()}


def test_where_nothing_is_rearranged_names_stay() -> None:
    """Convolutions in one dimension, which onnxruntime does not block."""
    weight = numpy_helper.from_array(RNG.normal(size=(16, 3, 3)).astype(np.float32), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "c")], "g", [value("x", TensorProto.FLOAT, ["n", 3, 9])],
        [value("y", TensorProto.FLOAT, None)], [weight],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feed = {"x": RNG.normal(size=(2, 3, 9)).astype(np.float32)}
    session, given = create_blocked_session(model, ["y"], ["y"], threads=1)
    assert given == ["y"]
    np.testing.assert_array_equal(run(session, given, feed)[0], run(create_session(model), None, feed)[0])


def test_two_convolutions_of_one_tensor_and_a_tensor_wanted_twice() -> None:
    weight = numpy_helper.from_array(RNG.normal(size=(16, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "c"),
        helper.make_node("Relu", ["a"], ["b"], "r"),
        helper.make_node("Identity", ["b"], ["i"], "i"),
        helper.make_node("Conv", ["x", "w"], ["d"], "e"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n", 3, 9, 9])], [value("d", TensorProto.FLOAT, None)], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feed = {"x": RNG.normal(size=(2, 3, 9, 9)).astype(np.float32)}
    names = ["a", "b", "i", "d"]
    session, given = create_blocked_session(model, names, names, threads=1)
    for values, other in zip(
        run(create_session(model, outputs=names), None, feed), run(session, given, feed), strict=True
    ):
        np.testing.assert_array_equal(np.sort(values, axis=None), np.sort(other, axis=None))


def quantized_resnet(
    width: int, samples: int
) -> tuple[onnx.ModelProto, list[dict[str, np.ndarray]], list[str], onnx.ModelProto]:
    """A small ResNet, its feeds, the names of its weighted nodes, and its Q/DQ model."""
    model = resnet18.build(width=width, size=32, classes=10)
    plan = place(view_of(model))
    feeds = [{"image": RNG.normal(size=(samples, 3, 32, 32)).astype(np.float32)}]
    ranges = {name: TensorRange(amax) for name, amax in maxima_of(collect(model, feeds, plan.tensors)).items()}
    return model, feeds, [site.node for site in plan.weights], insert_qdq(model, plan, Ranges(ranges))


@pytest.mark.parametrize("width", [16, 24])
def test_errors_of_layers_are_those_of_ordered_activations(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks are compared in blocks where both have them; Q and DQ between two convolutions compute on blocks."""
    model, feeds, nodes, quantized = quantized_resnet(width, 3)
    simple = simulated(quantized)
    outputs = [node.output[0] for node in simple.graph.node if node.op_type in ("Conv", "DequantizeLinear")]
    session, given = create_blocked_session(simple, outputs, outputs, threads=1, fuse_qdq=False)
    ordered = run(create_session(simple, threads=1, fuse_qdq=False, outputs=outputs), None, feeds[0])
    for values, other in zip(ordered, run(session, given, feeds[0]), strict=True):
        np.testing.assert_array_equal(np.sort(values, axis=None), np.sort(other, axis=None))
    found = layer_errors(model, quantized, nodes, feeds, threads=1)
    monkeypatch.setattr("quantbench.calibration.ort_outputs.create_blocked_session", in_order)
    for error, other in zip(found, layer_errors(model, quantized, nodes, feeds, threads=1), strict=True):
        assert (error.node, error.tensor) == (other.node, other.tensor)
        assert error.sqnr_db == pytest.approx(other.sqnr_db, abs=1e-4)
        assert error.cosine == pytest.approx(other.cosine, abs=1e-6)


@pytest.mark.parametrize("width", [16, 24])
def test_biases_are_those_of_ordered_activations_to_the_bit(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means stand in blocks until layers run on them."""
    _, feeds, _, quantized = quantized_resnet(width, 4)
    blocked = correct_bias(quantized, lambda: feeds, threads=2)
    monkeypatch.setattr("quantbench.calibration.ort_outputs.create_blocked_session", in_order)
    ordered = correct_bias(quantized, lambda: feeds, threads=2)
    assert blocked.SerializeToString(deterministic=True) == ordered.SerializeToString(deterministic=True)
    assert blocked.graph.initializer != quantized.graph.initializer


def in_order(model, outputs, free, *, threads, fuse_qdq):
    return create_session(model, threads=threads, fuse_qdq=fuse_qdq, outputs=outputs), list(outputs)


def test_qdq_between_convolutions_rearranges_nothing(tmp_path: Path) -> None:
    model = resnet18.build(width=16, size=32, classes=10)
    plan = place(view_of(model))
    quantized = insert_qdq(model, plan, Ranges({name: TensorRange(4.0) for name in plan.tensors}))
    create_session(simulated(quantized), fuse_qdq=False, optimized=tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    before = sum(node.op_type == "ReorderInput" for node in graph.graph.node)
    if not before:
        pytest.skip("onnxruntime's convolutions do not block channels on this processor")
    pass_through_quantizers(graph, [value.name for value in graph.graph.output])
    onnx.save(graph, tmp_path / "m.onnx")
    feed = {"image": RNG.normal(size=(2, 3, 32, 32)).astype(np.float32)}
    after = sum(node.op_type == "ReorderInput" for node in graph.graph.node)
    assert after <= before // 2
    values = run(create_session(tmp_path / "m.onnx", optimize=False), None, feed)
    np.testing.assert_array_equal(values[0], run(create_session(simulated(quantized), fuse_qdq=False), None, feed)[0])
