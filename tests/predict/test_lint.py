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
from quantbench.lint.run import fix, lint
from quantbench.predict.simulate import predict_model
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from tests.predict.lint_models import IMAGES, X, conv, pair, run, small, sqnr


@pytest.fixture(scope="module")
def resnet() -> onnx.ModelProto:
    return normalise(build(batch=4, size=64, width=16, classes=10))


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
    assert sqnr(run(resnet), run(mended)) > 20


def test_our_own_placement_leaves_nothing_to_mend(resnet: onnx.ModelProto) -> None:
    quantized = insert_qdq(resnet, place(view_of(resnet)), _ranges(resnet, IMAGES))
    assert not [f for f in lint(quantized) if f.fixable]
    mended, counts = fix(quantized)
    assert not any(counts.values())
    np.testing.assert_array_equal(run(quantized), run(mended))


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
    assert sqnr(run(quantized), run(mended)) > 40


def test_unequal_concat_scales_become_one() -> None:
    weights: dict[str, NDArray[Any]] = {}
    float_model = small(
        [conv("x", "a", "p", 8, weights), helper.make_node("Relu", ["p"], ["q"], name="relu"),
         conv("q", "b", "r", 8, weights), helper.make_node("Concat", ["q", "r"], ["s"], name="cat", axis=1),
         conv("s", "c", "y", 16, weights)], weights, "y")  # fmt: skip
    plan = place(view_of(float_model), PlacementOptions(share_concat=False, head_float=False))
    quantized = insert_qdq(float_model, plan, _ranges(float_model, X))
    mine = [f for f in lint(quantized) if f.rule in ("concat-scales", "duplicate-q")]
    mended, counts = fix(quantized)
    assert len(predict_model(mended).leftover) <= len(predict_model(quantized).leftover)
    assert bool(mine) == any(counts.values())
    assert sqnr(run(float_model, X), run(mended, X)) > 25


def test_concat_of_quantized_tensors_with_unequal_scales() -> None:
    weights: dict[str, NDArray[Any]] = {}
    left, a = pair("p", "left", 0.045, weights)
    right, b = pair("q", "right", 0.05, weights)
    behind, c = pair("s", "behind", 0.04, weights)
    model = small(
        [conv("x", "a", "p", 8, weights), *left, conv("x", "b", "q", 8, weights), *right,
         helper.make_node("Concat", [a, b], ["s"], name="cat", axis=1), *behind, conv(c, "c", "y", 16, weights)],
        {k: np.asarray(v) for k, v in weights.items()}, "y")  # fmt: skip
    assert [f.node for f in lint(model) if f.rule == "concat-scales"] == ["cat"]
    mended, counts = fix(model)
    assert counts["concat-scales"] == 1
    assert not [f for f in lint(mended) if f.rule == "concat-scales"]
    assert sqnr(run(model, X), run(mended, X)) > 25


def test_duplicate_qs_of_one_tensor_become_one() -> None:
    weights: dict[str, NDArray[Any]] = {}
    one, a = pair("p", "one", 0.04, weights)
    two, b = pair("p", "two", 0.05, weights)
    model = small(
        [conv("x", "a", "p", 8, weights), *one, *two, conv(a, "b", "q", 8, weights), conv(b, "c", "r", 8, weights),
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
    assert sqnr(run(model, X), run(mended, X)) > 25


def test_q_between_conv_and_relu_moves_behind_it() -> None:
    weights: dict[str, NDArray[Any]] = {}
    between, d = pair("p", "between", 0.02, weights)
    model = small(
        [conv("x", "a", "p", 8, weights), *between, helper.make_node("Relu", [d], ["q"], name="relu"),
         conv("q", "b", "y", 8, weights)], {k: np.asarray(v) for k, v in weights.items()}, "y")  # fmt: skip
    assert [f.node for f in lint(model) if f.rule == "q-before-activation"] == ["between_Q"]
    mended, counts = fix(model)
    assert counts["q-before-activation"] == 1
    assert [n.op_type for n in mended.graph.node] == ["Conv", "Relu", "QuantizeLinear", "DequantizeLinear", "Conv"]
    # Relu of the rounded is the rounded of the Relu: nothing changes.
    np.testing.assert_allclose(run(model, X), run(mended, X), atol=1e-5)


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
