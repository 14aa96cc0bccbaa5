"""What onnx-graphsurgeon and the checker would lose or refuse: metadata, models over one message, opsets, order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.cache.model import CalibrationCache
from quantbench.cache.read import read_cache
from quantbench.cache.strip import strip_qdq
from quantbench.cache.to_qdq import to_qdq
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.core.quantize import for_onnxruntime
from quantbench.errors import QuantbenchError
from quantbench.graph import save, surgery
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.graph.save import save_model
from quantbench.graph.shape_values import known_values
from quantbench.graph.to_fp16 import to_bf16, to_fp16
from quantbench.lint.run import fix
from quantbench.ort import create_session
from quantbench.qdq.correct_bias import correct_bias
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from tests.graph import networks

IMAGES = np.random.default_rng(2).normal(size=(1, 3, 8, 8)).astype(np.float32)
NAMES = {"names": "{0: 'cat', 1: 'dog'}", "stride": "32", "task": "detect", "imgsz": "[640, 640]"}


def told() -> onnx.ModelProto:
    """A model with all that ultralytics and exporters write beside the graph."""
    model = networks.plain()
    for key, value in NAMES.items():
        model.metadata_props.add(key=key, value=value)
    model.doc_string, model.graph.doc_string = "a model", "a graph"
    model.producer_name, model.producer_version = "pytorch", "2.9"
    model.domain, model.model_version = "ai.example", 7
    model.graph.node[0].doc_string = "the stem"
    model.graph.node[0].metadata_props.add(key="layer", value="0")
    model.graph.input[0].doc_string = "pictures"
    return model


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    plan = place(view_of(model))
    return insert_qdq(model, plan, Ranges({name: TensorRange(3.0) for name in plan.tensors}))


def cache_of(model: onnx.ModelProto, folder: Path) -> CalibrationCache:
    lines = [f"{name}: {np.float32(3 / 127).view(np.uint32):08x}" for name in place(view_of(model)).tensors]
    (folder / "c.cache").write_text("TRT-8601-MinMaxCalibration\n" + "\n".join(lines) + "\n")
    return read_cache(folder / "c.cache")


WRITERS = {
    "insert": lambda m, _: quantized(m),
    "for onnxruntime": lambda m, _: for_onnxruntime(quantized(m)),
    "bias correction": lambda m, _: correct_bias(quantized(m), lambda: [{"x": IMAGES}]),
    "to-qdq": lambda m, folder: to_qdq(m, cache_of(m, folder)).model,
    "strip": lambda m, _: strip_qdq(quantized(m)).model,
    "fp16": lambda m, _: to_fp16(m),
    "fp16 of Q/DQ": lambda m, _: to_fp16(quantized(m)),
    "bf16": lambda m, _: to_bf16(m),
    "lint --fix": lambda m, _: fix(quantized(m))[0],
    "opset": lambda m, _: surgery.at_opset(m, 19),
}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_metadata_and_doc_strings_survive(name: str, tmp_path: Path) -> None:
    """ultralytics' names, stride and task vanished from every model that was written."""
    result = WRITERS[name](told(), tmp_path)
    save_model(result, tmp_path / "m.onnx")
    written = onnx.load(str(tmp_path / "m.onnx"))
    kept = {p.key: p.value for p in written.metadata_props}
    assert {key: kept.get(key) for key in NAMES} == NAMES
    assert (written.doc_string, written.graph.doc_string) == ("a model", "a graph")
    assert (written.producer_name, written.producer_version) == ("pytorch", "2.9")
    assert (written.domain, written.model_version) == ("ai.example", 7)
    stem = next(node for node in written.graph.node if node.name == "a")
    assert stem.doc_string == "the stem"
    assert {p.key: p.value for p in stem.metadata_props} == {"layer": "0"}
    assert written.graph.input[0].doc_string == "pictures"


@pytest.mark.usefixtures("small_messages")
def test_models_over_one_message_pass_by_path(tmp_path: Path) -> None:
    """The way of models over 2 GB: no message holds their weights, and they are written beside the model."""
    onnx.save(told(), str(tmp_path / "m.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    model = load_model(tmp_path / "m.onnx")
    corrected = correct_bias(quantized(model), lambda: [{"x": IMAGES}])
    surgery.check(corrected, full=True)
    save_model(corrected, tmp_path / "q.onnx")
    save_model(to_fp16(corrected), tmp_path / "h.onnx")
    assert {p.name for p in tmp_path.iterdir()} >= {"q.onnx", "q.onnx.data", "h.onnx", "h.onnx.data"}
    assert (tmp_path / "q.onnx").stat().st_size < (tmp_path / "q.onnx.data").stat().st_size
    (got,) = create_session(tmp_path / "q.onnx").run(None, {"x": IMAGES})
    (same,) = create_session(corrected).run(None, {"x": IMAGES})
    np.testing.assert_array_equal(got, same)
    assert quantized(load_model(tmp_path / "m.onnx")) == quantized(model)


@pytest.fixture
def small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message holds 10 kB, and weights over 1 kB are large."""
    monkeypatch.setattr(save, "ONE_MESSAGE", 10_000)
    monkeypatch.setattr("quantbench.ort._THROUGH_A_FILE", 10_000)
    monkeypatch.setattr(surgery, "_LARGE", 1000)


def test_large_weights_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = for_onnxruntime(quantized(networks.plain()))
    monkeypatch.setattr(surgery, "_LARGE", 0)
    assert for_onnxruntime(quantized(networks.plain())) == expected


@pytest.mark.parametrize(
    ("damage", "told_as"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:1000]), "external data of"),
        (lambda file: file.unlink(), "external data is missing"),
        (lambda file: file.write_bytes(b""), "external data of"),
    ],
)
def test_broken_external_data_is_told_in_one_line(
    damage: Callable[[Path], object], told_as: str, tmp_path: Path
) -> None:
    onnx.save(networks.plain(), str(tmp_path / "m.onnx"), save_as_external_data=True, location="w", size_threshold=0)
    damage(tmp_path / "w")
    with pytest.raises(QuantbenchError, match=told_as) as caught:
        load_model(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_external_data_of_another_length_is_told(tmp_path: Path) -> None:
    onnx.save(networks.plain(), str(tmp_path / "m.onnx"), save_as_external_data=True, location="w", size_threshold=0)
    bare = onnx.load(str(tmp_path / "m.onnx"), load_external_data=False)
    length = next(e for e in bare.graph.initializer[0].external_data if e.key == "length")
    length.value = "16"
    (tmp_path / "m.onnx").write_bytes(bare.SerializeToString())
    with pytest.raises(QuantbenchError, match="16 bytes in place of"):
        load_model(tmp_path / "m.onnx")


def loaded(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return load_model(folder / "m.onnx")


def test_nodes_are_sorted_on_loading(tmp_path: Path) -> None:
    """onnxconverter-common leaves them unsorted; a middle conv was then taken for the head."""
    model = networks.plain()
    nodes = list(model.graph.node)[::-1]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    plan = place(view_of(loaded(model, tmp_path)))
    assert {site.node for site in plan.weights} == {"a", "b"}
    assert set(plan.kept_float) == {"c"}


def test_a_cycle_is_refused_by_name(tmp_path: Path) -> None:
    """A DQ that feeds its own Q made lint loop for ever."""
    values = {"scale": np.asarray(0.1, np.float32), "zero": np.asarray(0, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["d", "scale", "zero"], ["q"], name="the_q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="the_dq"),
        helper.make_node("Add", ["x", "d"], ["y"], name="add"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(v, n) for n, v in values.items()],
    )  # fmt: skip
    with pytest.raises(QuantbenchError, match="cycle: the_q -> the_dq -> the_q"):
        loaded(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path)


def test_dead_nodes_are_no_layers(tmp_path: Path) -> None:
    dead = [networks.conv("b", "a_out", "nobody"), helper.make_node("Relu", ["nobody"], ["no_one"], name="dead")]
    model = networks.model_of([networks.conv("a", "x", "a_out"), *dead, networks.conv("c", "a_out", "y")],
                              networks.weights())  # fmt: skip
    again = loaded(model, tmp_path)
    assert [node.name for node in again.graph.node] == ["a", "c"]
    assert not [t.name for t in again.graph.initializer if t.name.startswith("b.")]


def test_constants_by_number_are_constants(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["six"], name="six", value_float=6.0),
        helper.make_node("Constant", [], ["zero"], name="zero", value_float=0.0),
        helper.make_node("Constant", [], ["shape"], name="shape", value_ints=[1, 16, 64]),
        helper.make_node("Constant", [], ["one"], name="one", value_int=1),
        helper.make_node("Constant", [], ["two"], name="two", value_floats=[1.0, 2.0]),
        networks.conv("a", "x", "a_out"),
        helper.make_node("Clip", ["a_out", "zero", "six"], ["clipped"], name="clip"),
        helper.make_node("Reshape", ["clipped", "shape"], ["flat"], name="reshape"),
        helper.make_node("Unsqueeze", ["flat", "one"], ["y"], name="unsqueeze"),
        helper.make_node("Neg", ["two"], ["z"], name="neg"),
    ]
    model = loaded(networks.model_of(nodes, networks.weights(), outputs=("y", "z")), tmp_path)
    assert {"six", "zero", "shape", "one"} <= {t.name for t in model.graph.initializer}
    assert view_of(model).tensors["y"].shape == (1, 1, 16, 64)


def test_a_weight_q_without_axis_has_the_axis_of_the_standard() -> None:
    """A traceback: the axis that ONNX takes where none is stated is 1, as ConvTranspose wants it."""
    values = networks.weights() | {"t.w": np.random.default_rng(3).normal(0, 1, (16, 8, 2, 2)).astype(np.float32)}
    nodes = [
        *networks.chain(y="c_out"),
        helper.make_node("QuantizeLinear", ["c_out", "s", "z"], ["c_q"], name="q"),
        helper.make_node("DequantizeLinear", ["c_q", "s", "z"], ["c_dq"], name="dq"),
        helper.make_node("QuantizeLinear", ["t.w", "ws", "wz"], ["t_q"], name="wq"),
        helper.make_node("DequantizeLinear", ["t_q", "ws", "wz"], ["t_dq"], name="wdq"),
        helper.make_node("ConvTranspose", ["c_dq", "t_dq"], ["y"], name="t", strides=[2, 2]),
    ]
    values |= {"s": np.asarray(0.05, np.float32), "z": np.asarray(0, np.int8)}
    values |= {"ws": np.full(8, 0.03, np.float32), "wz": np.zeros(8, np.int8)}
    model = networks.model_of(nodes, values)
    (expected,) = create_session(model, optimize=False).run(None, {"x": IMAGES})
    (got,) = create_session(for_onnxruntime(model)).run(None, {"x": IMAGES})
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_shape_arithmetic_is_exact() -> None:
    """Slice with an empty name for its axes lost its step, Div rounded over 2^53, a division by zero gave 0."""
    large = 2**53 + 3
    values = {"v": np.arange(6), "from": np.asarray([0]), "to": np.asarray([6]), "by": np.asarray([2]),
              "large": np.asarray([large]), "one": np.asarray([1]), "zero": np.asarray([0]),
              "minus": np.asarray([-7]), "two": np.asarray([2])}  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["v", "from", "to", "", "by"], ["every second"]),
        helper.make_node("Div", ["large", "one"], ["same"]),
        helper.make_node("Div", ["one", "zero"], ["nothing"]),
        helper.make_node("Div", ["minus", "two"], ["towards zero"]),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(v.astype(np.int64), n)
                                                   for n, v in values.items()])  # fmt: skip
    found = known_values(graph)
    assert found["every second"].items == (0, 2, 4)
    assert found["same"].items == (large,)
    assert not found["nothing"].known
    assert found["towards zero"].items == (-3,)


def test_a_list_of_nothing_is_kept_with_its_type() -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("ReduceMean", ["x"], ["y"], "mean", keepdims=0)
    node.attribute.append(onnx.AttributeProto(name="axes", type=onnx.AttributeProto.INTS))
    graph = helper.make_graph([node], "g", [value("x", 1, [2, 3])], [value("y", 1, [])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    kept = {a.name: a for a in surgery.edited(model, lambda _: None).graph.node[0].attribute}
    assert (kept["axes"].type, list(kept["axes"].ints), kept["keepdims"].i) == (onnx.AttributeProto.INTS, [], 0)
