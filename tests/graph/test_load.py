"""Loading and viewing ONNX files."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from quantbench.calibration.ort_outputs import static_batch
from quantbench.demo import resnet18
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model, model_sha256
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session


def test_names_and_constants_are_normal(tmp_path: Path) -> None:
    value = helper.make_tensor("c", TensorProto.FLOAT, [1], [2.0])
    nodes = [
        helper.make_node("Constant", [], ["two"], value=value),
        helper.make_node("Mul", ["x", "two"], ["y"], name="same"),
        helper.make_node("Mul", ["y", "two"], ["z"], name="same"),
        helper.make_node("Relu", ["z"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) == 3
    assert all(names)
    view = view_of(model)
    assert view.is_constant("two")
    assert view.tensors["z"].shape == ("n", 3)
    assert view.inputs == ("x",)
    assert view.outputs == ("out",)


def test_view_of_a_resnet() -> None:
    view = view_of(resnet18.build(batch=2, width=8, size=32, classes=10))
    assert view.tensors["logits"].shape == (2, 10)
    for node in view.nodes:
        assert all(view.tensors[out].shape is not None for out in node.outputs)
    relu = next(node for node in view.nodes if node.op == "Relu")
    assert view.producers[relu.outputs[0]] is relu
    assert view.readers(relu.inputs[0]) == ((relu, 0),)
    assert view.readers("logits") == ()


def test_old_opsets_are_raised(tmp_path: Path) -> None:
    onnx.save(resnet18.build(width=8, size=32, classes=10, opset=11), tmp_path / "old.onnx")
    model = load_model(tmp_path / "old.onnx")
    assert model.opset_import[0].version == 13


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = resnet18.build(width=8, size=32, classes=10)
    onnx.save(model, path, save_as_external_data=True, location="m.weights", size_threshold=0)
    first = model_sha256(path)
    data = bytearray((tmp_path / "m.weights").read_bytes())
    data[100] ^= 1
    (tmp_path / "m.weights").write_bytes(data)
    assert model_sha256(path) != first
    (tmp_path / "m.weights").unlink()
    with pytest.raises(QuantbenchError, match="external data"):
        load_model(path)


def test_unknown_dimensions_get_names_of_their_own(tmp_path: Path) -> None:
    """Paddle writes -1 for a dynamic size, others 0 or a question mark."""
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, 3, "?", "?"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [0, 3, "h", 8])],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    onnx.save(model, tmp_path / "m.onnx")
    loaded = load_model(tmp_path / "m.onnx")
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (*loaded.graph.input, *loaded.graph.output)]  # fmt: skip
    assert dims == [["x_dim_0", 3, "x_dim_2", "x_dim_3"], ["y_dim_0", 3, "h", 8]]
    assert static_batch(loaded) == 0


def test_what_only_python_can_read_has_no_inferred_shapes(tmp_path: Path) -> None:
    """A group where a dimension should be: Python's protobuf skips it, onnx's own and onnxruntime's refuse the file
    (found by fuzzing)."""
    # The 12 of the last dimension ends the group, what lies between is a field of number 0.
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 12]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    dims = bytes.fromhex("0a0208010a020803")
    assert data.count(dims) == 2
    at = data.rindex(dims) + 4
    path = tmp_path / "m.onnx"
    path.write_bytes(data[:at] + b"\x0b" + data[at + 1 :])
    model = load_model(path)
    with pytest.raises(ValueError, match="parse proto"):
        onnx.shape_inference.infer_shapes(model)
    assert [node.op for node in view_of(model).nodes] == ["Relu"]
    with pytest.raises(QuantbenchError, match="protobuf parsing failed"):
        create_session(model)
