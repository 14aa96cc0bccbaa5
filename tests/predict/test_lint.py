"""Lint and its fixes on models that onnxruntime can run before and after."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, quantize_static
from typer.testing import CliRunner

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.cli.main import app, register_commands
from quantbench.demo.resnet18 import build
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import view_of
from quantbench.lint.finding import size
from quantbench.lint.run import fix, lint
from quantbench.predict.simulate import predict_model
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place

IMAGES = np.random.default_rng(7).normal(size=(4, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def resnet() -> onnx.ModelProto:
    return normalise(build(batch=4, size=64, width=16, classes=10))


def _run(model: onnx.ModelProto, image: NDArray[np.float32] = IMAGES) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Optimized, onnxruntime would fuse Q/DQ and round otherwise.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: image})[0]
    return result


def _ranges(model: onnx.ModelProto, image: NDArray[np.float32]) -> Ranges:
    """The largest |x| of every float tensor, as onnxruntime computes it."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = [o for n in model.graph.node for o in n.output if o]
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image}
    found = dict(zip(names, session.run(None, feed), strict=True)) | feed
    return Ranges({name: TensorRange(float(np.abs(v).max())) for name, v in found.items()})


def _sqnr(reference: NDArray[np.float32], result: NDArray[np.float32]) -> float:
    noise = float(np.square(reference - result).mean())
    return 99.0 if noise == 0 else float(10 * np.log10(np.square(reference).mean() / noise))


def test_missing_residual_quantization_is_found_and_mended(resnet: onnx.ModelProto) -> None:
    plan = place(view_of(resnet), PlacementOptions(residual=False, pooling=False))
    quantized = insert_qdq(resnet, plan, _ranges(resnet, IMAGES))
    findings = [f for f in lint(quantized) if f.rule == "residual-float"]
    # Of eight Adds five read a tensor that a conv reads too; the three with a downsample conv do not.
    assert len(findings) == 5
    assert all(f.cost > 0 and f.fixable for f in findings)
    mended, counts = fix(quantized)
    assert counts["residual-float"] == 5
    assert not [f for f in lint(mended) if f.rule == "residual-float"]
    before, after = predict_model(quantized), predict_model(mended)
    assert after.float_bytes < before.float_bytes
    assert len(after.leftover) < len(before.leftover)
    assert _sqnr(_run(resnet), _run(mended)) > 20


def test_our_own_placement_leaves_nothing_to_mend(resnet: onnx.ModelProto) -> None:
    quantized = insert_qdq(resnet, place(view_of(resnet)), _ranges(resnet, IMAGES))
    assert not [f for f in lint(quantized) if f.fixable]
    mended, counts = fix(quantized)
    assert not any(counts.values())
    np.testing.assert_array_equal(_run(quantized), _run(mended))


class _Images:
    def __init__(self) -> None:
        self.rest = [{"image": IMAGES}]

    def get_next(self) -> dict[str, Any] | None:
        return self.rest.pop() if self.rest else None


def test_onnxruntimes_own_qdq_is_refused_by_tensorrt_and_told_so(resnet: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(resnet, tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "ort.onnx", _Images(), quant_format=QuantFormat.QDQ)
    quantized = normalise(onnx.load(tmp_path / "ort.onnx"))
    rules = {f.rule for f in lint(quantized)}
    assert {"int32-bias", "not-symmetric-int8"} <= rules
    mended, counts = fix(quantized)
    # 20 convs and the Gemm have a bias each.
    assert counts["int32-bias"] == 21
    assert "int32-bias" not in {f.rule for f in lint(mended)}
    assert _sqnr(_run(quantized), _run(mended)) > 40


def _small(nodes: list[onnx.NodeProto], weights: dict[str, NDArray[Any]], out: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 16, 16])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [1, 8, 16, 16])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def _conv(x: str, name: str, out: str, channels: int, weights: dict[str, NDArray[Any]]) -> onnx.NodeProto:
    rng = np.random.default_rng(len(name) + ord(name[-1]))
    weights[f"{name}.w"] = rng.normal(0, 0.15, (8, channels, 3, 3)).astype(np.float32)
    return helper.make_node("Conv", [x, f"{name}.w"], [out], name=name, pads=[1, 1, 1, 1], kernel_shape=[3, 3])


X = np.random.default_rng(3).normal(size=(1, 8, 16, 16)).astype(np.float32)


def test_unequal_concat_scales_become_one() -> None:
    weights: dict[str, NDArray[Any]] = {}
    float_model = _small(
        [_conv("x", "a", "p", 8, weights), helper.make_node("Relu", ["p"], ["q"], name="relu"),
         _conv("q", "b", "r", 8, weights), helper.make_node("Concat", ["q", "r"], ["s"], name="cat", axis=1),
         _conv("s", "c", "y", 16, weights)], weights, "y")  # fmt: skip
    plan = place(view_of(float_model), PlacementOptions(share_concat=False, head_float=False))
    quantized = insert_qdq(float_model, plan, _ranges(float_model, X))
    mine = [f for f in lint(quantized) if f.rule in ("concat-scales", "duplicate-q")]
    mended, counts = fix(quantized)
    assert len(predict_model(mended).leftover) <= len(predict_model(quantized).leftover)
    assert bool(mine) == any(counts.values())
    assert _sqnr(_run(float_model, X), _run(mended, X)) > 25


def _pair(x: str, name: str, scale: float, weights: dict[str, NDArray[Any]]) -> tuple[list[onnx.NodeProto], str]:
    weights[f"{name}_s"], weights[f"{name}_z"] = np.float32(scale), np.int8(0)
    weights = {k: np.asarray(v) for k, v in weights.items()}
    q = helper.make_node("QuantizeLinear", [x, f"{name}_s", f"{name}_z"], [f"{name}_q"], name=f"{name}_Q")
    dq = helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_d"], name=f"{name}_DQ")
    return [q, dq], f"{name}_d"


def test_concat_of_quantized_tensors_with_unequal_scales() -> None:
    weights: dict[str, NDArray[Any]] = {}
    left, a = _pair("p", "left", 0.045, weights)
    right, b = _pair("q", "right", 0.05, weights)
    behind, c = _pair("s", "behind", 0.04, weights)
    model = _small(
        [_conv("x", "a", "p", 8, weights), *left, _conv("x", "b", "q", 8, weights), *right,
         helper.make_node("Concat", [a, b], ["s"], name="cat", axis=1), *behind, _conv(c, "c", "y", 16, weights)],
        {k: np.asarray(v) for k, v in weights.items()}, "y")  # fmt: skip
    assert [f.node for f in lint(model) if f.rule == "concat-scales"] == ["cat"]
    mended, counts = fix(model)
    assert counts["concat-scales"] == 1
    assert not [f for f in lint(mended) if f.rule == "concat-scales"]
    assert _sqnr(_run(model, X), _run(mended, X)) > 25


def test_duplicate_qs_of_one_tensor_become_one() -> None:
    weights: dict[str, NDArray[Any]] = {}
    one, a = _pair("p", "one", 0.04, weights)
    two, b = _pair("p", "two", 0.05, weights)
    model = _small(
        [_conv("x", "a", "p", 8, weights), *one, *two, _conv(a, "b", "q", 8, weights), _conv(b, "c", "r", 8, weights),
         helper.make_node("Add", ["q", "r"], ["y"], name="add")],
        {k: np.asarray(v) for k, v in weights.items()}, "y")  # fmt: skip
    found = [f for f in lint(model) if f.rule == "duplicate-q"]
    assert [f.node for f in found] == ["one_Q"]
    assert found[0].cost > 0
    mended, counts = fix(model)
    assert counts["duplicate-q"] == 1
    scales = {float(numpy_helper.to_array(t)) for t in mended.graph.initializer if "scale" in t.name}
    assert scales == {float(np.float32(0.05))}
    assert sum(n.op_type == "QuantizeLinear" for n in mended.graph.node) == 1
    assert _sqnr(_run(model, X), _run(mended, X)) > 25


def test_q_between_conv_and_relu_moves_behind_it() -> None:
    weights: dict[str, NDArray[Any]] = {}
    between, d = _pair("p", "between", 0.02, weights)
    model = _small(
        [_conv("x", "a", "p", 8, weights), *between, helper.make_node("Relu", [d], ["q"], name="relu"),
         _conv("q", "b", "y", 8, weights)], {k: np.asarray(v) for k, v in weights.items()}, "y")  # fmt: skip
    assert [f.node for f in lint(model) if f.rule == "q-before-activation"] == ["between_Q"]
    mended, counts = fix(model)
    assert counts["q-before-activation"] == 1
    assert [n.op_type for n in mended.graph.node] == ["Conv", "Relu", "QuantizeLinear", "DequantizeLinear", "Conv"]
    # Relu of the rounded is the rounded of the Relu: nothing changes.
    np.testing.assert_allclose(_run(model, X), _run(mended, X), atol=1e-5)


def test_cli_prints_one_line_a_finding_and_fixes(resnet: onnx.ModelProto, tmp_path: Path) -> None:
    if not app.registered_commands:
        register_commands()
    plan = place(view_of(resnet), PlacementOptions(residual=False))
    path = tmp_path / "m.qdq.onnx"
    onnx.save(insert_qdq(resnet, plan, _ranges(resnet, IMAGES)), path)
    result = CliRunner().invoke(app, ["lint", str(path)])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert sum("residual-float" in line and "[--fix]" in line for line in lines) == 5
    CliRunner().invoke(app, ["lint", str(path), "--fix", "--out", str(tmp_path / "fixed.onnx")])
    assert not [f for f in lint(onnx.load(tmp_path / "fixed.onnx")) if f.fixable]


def _branching() -> onnx.ModelProto:
    """A quantized conv whose output only the bodies of an If read, one of them through a Q of its own."""
    weights: dict[str, NDArray[Any]] = {}
    before, d = _pair("x", "before", 0.05, weights)
    inside, e = _pair("p", "inside", 0.1, weights)
    conv = _conv(d, "a", "p", 8, weights)
    value = helper.make_tensor_value_info
    then = helper.make_graph(inside, "then", [], [value(e, TensorProto.FLOAT, [1, 8, 16, 16])])
    other = helper.make_graph([helper.make_node("Relu", ["p"], ["r"], name="relu")], "other", [],
                              [value("r", TensorProto.FLOAT, [1, 8, 16, 16])])  # fmt: skip
    choose = helper.make_node("If", ["which"], ["y"], name="choose", then_branch=then, else_branch=other)
    weights["which"] = np.asarray(True)
    return _small([*before, conv, choose], {k: np.asarray(v) for k, v in weights.items()}, "y")


def test_what_bodies_of_an_if_read_stays_in_the_network() -> None:
    model = _branching()
    prediction = predict_model(model)
    assert [layer.nodes for layer in prediction.layers][-2:] == [("a",), ("choose",)]
    mended, counts = fix(model)
    assert not any(counts.values())
    np.testing.assert_array_equal(_run(model, X), _run(mended, X))


@pytest.mark.parametrize(
    ("zero", "said"),
    [(np.uint8(128), "UINT8 levels"), (np.int8(3), "a zero point that is not zero"), (None, "the network computes")],
)
def test_what_is_not_symmetric_int8_is_named_by_lint_and_predict(
    zero: np.generic | None, said: str, tmp_path: Path
) -> None:
    weights: dict[str, NDArray[Any]] = {}
    nodes, d = _pair("x", "q", 0.05, weights)
    conv = _conv(d, "a", "y", 8, weights)
    values = {k: np.asarray(v) for k, v in weights.items()}
    if zero is None:
        values["q_raw"] = values.pop("q_s")
        nodes = [helper.make_node("Abs", ["q_raw"], ["q_s"], name="scale"), *nodes]
    else:
        values["q_z"] = np.asarray(zero)
    model = _small([*nodes, conv], values, "y")
    assert said in next(f for f in lint(model) if f.rule == "not-symmetric-int8").message
    file = tmp_path / "m.onnx"
    onnx.save(model, file)
    if not app.registered_commands:
        register_commands()
    assert said in CliRunner().invoke(app, ["predict", str(file)]).stdout


def test_twin_qs_with_different_zero_points_are_left_alone() -> None:
    weights: dict[str, NDArray[Any]] = {}
    one, a = _pair("p", "one", 0.04, weights)
    two, b = _pair("p", "two", 0.05, weights)
    values = {k: np.asarray(v) for k, v in weights.items()} | {"two_z": np.asarray(np.int8(-90))}
    nodes = [_conv("x", "a", "p", 8, values), *one, *two, helper.make_node("Add", [a, b], ["y"], name="add")]
    model = _small(nodes, values, "y")
    assert not [f for f in lint(model) if f.rule == "duplicate-q"]
    np.testing.assert_array_equal(_run(model, X), _run(fix(model)[0], X))


def test_mends_name_the_change_that_helps() -> None:
    """Q and DQ between conv and Relu: the left-over DQ and the left-over Q behind the Relu have one cause."""
    weights: dict[str, NDArray[Any]] = {}
    between, d = _pair("p", "between", 0.02, weights)
    behind, e = _pair("q", "behind", 0.02, weights)
    model = _small(
        [_conv("x", "a", "p", 8, weights), *between, helper.make_node("Relu", [d], ["q"], name="relu"), *behind,
         _conv(e, "b", "y", 8, weights)], {k: np.asarray(v) for k, v in weights.items()}, "y")  # fmt: skip
    mends = {f.node: f.mend for f in lint(model) if f.rule == "left-over"}
    assert mends["between_DQ"] == "move Q and DQ behind relu"
    assert mends["behind_Q"] == "take out the Q and DQ before relu"


def test_costs_read_well_at_every_size() -> None:
    assert [size(n) for n in (512, 12_345, 4_560_000)] == ["512 B", "12.3 kB", "4.56 MB"]


def test_a_pooling_between_two_scales_is_told_as_such() -> None:
    """DQ, MaxPool, Q with another scale: neither can move past the pooling and meet its twin."""
    weights: dict[str, NDArray[Any]] = {}
    before, d = _pair("p", "before", 0.02, weights)
    behind, e = _pair("q", "behind", 0.03, weights)
    pool = helper.make_node("MaxPool", [d], ["q"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    model = _small([_conv("x", "a", "p", 8, weights), *before, pool, *behind, _conv(e, "b", "y", 8, weights)],
                   {k: np.asarray(v) for k, v in weights.items()}, "y")  # fmt: skip
    mends = {f.node: f.mend for f in lint(model) if f.rule == "left-over"}
    assert mends["before_DQ"] == "give it and behind_Q one scale"
    assert mends["behind_Q"] == "give it and the inputs of pool one scale"


def test_a_q_of_an_output_that_nothing_computes_on_is_to_be_left_out() -> None:
    weights: dict[str, NDArray[Any]] = {}
    conv = _conv("x", "a", "p", 8, weights)
    pair, _ = _pair("p", "last", 0.05, weights)
    pair[1].output[0] = "y"
    model = _small([conv, *pair], {k: np.asarray(v) for k, v in weights.items()}, "y")
    mends = {f.node: f.mend for f in lint(model) if f.rule == "left-over"}
    assert mends["last_Q"] == "leave it out: nothing computes on it"


def test_fixes_keep_the_order_of_nodes_whatever_it_was() -> None:
    """The Add stands before the Q of its skip input in the file: reading the DQ, it must move behind it."""
    weights: dict[str, NDArray[Any]] = {}
    first, d = _pair("x", "first", 0.05, weights)
    w, v = _pair("a.w", "weights", 0.005, weights)
    skip, s = _pair("p", "skip", 0.05, weights)
    conv = _conv(d, "a", "q", 8, weights)
    conv.input[1] = v
    relu = helper.make_node("Relu", ["x"], ["p"], name="relu")
    nodes = [relu, *first, *w, conv, helper.make_node("Add", ["q", "p"], ["y"], name="add"), *skip,
             _conv(s, "b", "z", 8, weights)]  # fmt: skip
    model = _small(nodes, {k: np.asarray(v) for k, v in weights.items()}, "y")
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 8, 16, 16]))
    mended, counts = fix(model)
    assert counts["residual-float"] == 1
    order = [n.name for n in mended.graph.node]
    assert order.index("skip_Q") < order.index("skip_DQ") < order.index("add")
    assert _sqnr(_run(model, X), _run(mended, X)) > 25
