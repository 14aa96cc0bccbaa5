"""Inserted Q/DQ: what the ONNX model says, what it computes, and that its re-encodings compute the same."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.core.quantize import for_onnxruntime
from quantbench.demo import resnet18
from quantbench.errors import QuantbenchError
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from quantbench.qdq.affine import affine_activations
from quantbench.qdq.carry_out import Correction, WeightWork, carry_out
from quantbench.qdq.correct_bias import correct_bias
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.integer_activation import activations_on_integers, on_u8
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.qdq.reencode import to_u8_activations, with_int8_weights
from quantbench.qdq.weights import quantize_weight, weight_scale


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(16, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return resnet18.build(width=16, size=64, classes=10)


@pytest.fixture(scope="module")
def plan(model: onnx.ModelProto) -> Plan:
    return place(view_of(model))


@pytest.fixture(scope="module")
def ranges(model: onnx.ModelProto, plan: Plan, images: np.ndarray) -> Ranges:
    maxima = maxima_of(collect(model, [{"image": images}], plan.tensors))
    return Ranges({name: TensorRange(amax, "minmax") for name, amax in maxima.items()})


@pytest.fixture(scope="module")
def quantized(model: onnx.ModelProto, plan: Plan, ranges: Ranges) -> onnx.ModelProto:
    return insert_qdq(model, plan, ranges)


def run(model: onnx.ModelProto, images: np.ndarray, *, optimize: bool = True) -> np.ndarray:
    output: np.ndarray = create_session(model, optimize=optimize).run(None, {"image": images})[0]
    return output


def sqnr(signal: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10((signal**2).sum() / ((signal - other) ** 2).sum()))


def test_model_is_legal_for_tensorrt(quantized: onnx.ModelProto, plan: Plan) -> None:
    """Symmetric INT8, zero point 0, one scale a tensor for activations, per channel on axis 0 for weights."""
    onnx.checker.check_model(quantized, full_check=True)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    weights = {site.tensor for site in plan.weights}
    pairs = [node for node in quantized.graph.node if node.op_type == "QuantizeLinear"]
    assert len(pairs) == len(plan.tensors) + len(weights)
    for node in pairs:
        zero = stored[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        scale = stored[node.input[1]]
        assert (scale > 0).all()
        assert scale.ndim == (1 if node.input[0] in weights else 0)


def test_scales_are_amax_over_127(quantized: onnx.ModelProto, plan: Plan, ranges: Ranges) -> None:
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    group_amax: dict[str, float] = {}
    for site in plan.activations:
        group_amax[site.group] = max(group_amax.get(site.group, 0), ranges[site.tensor].amax)
    for site in plan.activations:
        assert stored[f"{site.tensor}_scale"] == np.float32(group_amax[site.group] / 127)


def test_int8_is_close_to_float(model: onnx.ModelProto, quantized: onnx.ModelProto, images: np.ndarray) -> None:
    assert sqnr(run(model, images), run(quantized, images)) > 25


@pytest.mark.parametrize("options", [PlacementOptions(), PlacementOptions(add_both=True, head_float=False)])
def test_reencoding_for_onnxruntime_changes_no_number(
    model: onnx.ModelProto, images: np.ndarray, options: PlacementOptions
) -> None:
    plan = place(view_of(model), options)
    maxima = maxima_of(collect(model, [{"image": images}], plan.tensors))
    # Half the range, so that saturation at both ends is part of the test.
    ranges = Ranges({name: TensorRange(amax / 2) for name, amax in maxima.items()})
    signed = insert_qdq(model, plan, ranges)
    twin = for_onnxruntime(signed)
    dtypes = {numpy_helper.to_array(t).dtype for t in twin.graph.initializer if t.name.endswith("zero_point_u8")}
    assert dtypes == {np.dtype(np.uint8)}
    assert not any(node.op_type in ("Relu", "MaxPool") and "integer" not in node.name for node in twin.graph.node[:8])
    # Without onnxruntime's fusions both are the same arithmetic, to the bit.
    np.testing.assert_array_equal(run(signed, images, optimize=False), run(twin, images, optimize=False))
    # With them, integer kernels round the bias and the sum differently.
    assert sqnr(run(signed, images, optimize=False), run(twin, images)) > 30


def test_u8_alone_changes_no_number(quantized: onnx.ModelProto, images: np.ndarray) -> None:
    twin = to_u8_activations(quantized)
    assert activations_on_integers(twin) == on_u8(quantized)
    assert not any(n.op_type == "QuantizeLinear" and n.input[0].endswith(".weight") for n in twin.graph.node)
    np.testing.assert_array_equal(run(quantized, images, optimize=False), run(twin, images, optimize=False))


def test_int8_weights_are_a_quarter_and_the_same(quantized: onnx.ModelProto, images: np.ndarray) -> None:
    small = with_int8_weights(quantized)
    assert small.ByteSize() < 0.4 * quantized.ByteSize()
    np.testing.assert_array_equal(run(small, images, optimize=False), run(quantized, images, optimize=False))


def test_biases_of_a_model_with_int8_weights_are_corrected_too(
    model: onnx.ModelProto, plan: Plan, ranges: Ranges, images: np.ndarray
) -> None:
    """Weights were stored first, and bias correction found no layer in them."""
    some = Correction(lambda: [{"image": images}], 16, 1)
    made, small = (
        carry_out(model, plan, ranges, some, weights=WeightWork(stored=int8)).model for int8 in (False, True)
    )
    assert not any(node.op_type == "QuantizeLinear" and node.input[0].endswith(".weight") for node in small.graph.node)
    np.testing.assert_array_equal(run(made, images, optimize=False), run(small, images, optimize=False))


def test_bias_correction_takes_the_mean_error_out(
    model: onnx.ModelProto, quantized: onnx.ModelProto, images: np.ndarray
) -> None:
    corrected = correct_bias(quantized, lambda: [{"image": images[:8]}, {"image": images[8:]}])
    assert len(corrected.graph.node) == len(quantized.graph.node)
    reference = run(model, images)
    before = np.abs((run(quantized, images) - reference).mean(axis=0)).sum()
    after = np.abs((run(corrected, images) - reference).mean(axis=0)).sum()
    assert after < 0.7 * before
    assert sqnr(reference, run(corrected, images)) > sqnr(reference, run(quantized, images))


def test_a_tensor_of_8_bit_floats_is_refused_by_name() -> None:
    text = "<ir_version: 8, opset_import: ['': 17]> g (float8e5m2[4,8] x) => (float y) { y = MatMul(x, w) }"
    made = onnx.parser.parse_model(text.replace("'", '"'))
    made.graph.initializer.append(numpy_helper.from_array(np.ones((8, 8), np.float32), "w"))
    with pytest.raises(QuantbenchError, match="'x' is of type FLOAT8E5M2: Q/DQ wants float32"):
        insert_qdq(made, place(view_of(made)), Ranges({"x": TensorRange(1.0)}))


def test_missing_and_impossible_ranges_are_named(model: onnx.ModelProto, plan: Plan, ranges: Ranges) -> None:
    first = plan.tensors[0]
    with pytest.raises(QuantbenchError, match="no range for tensor"):
        insert_qdq(model, plan, Ranges({n: r for n, r in ranges.tensors.items() if n != first}))
    for bad in (float("nan"), float("inf"), -1.0):
        with pytest.raises(QuantbenchError, match=f"range of tensor {first}"):
            insert_qdq(model, plan, Ranges({**ranges.tensors, first: TensorRange(bad)}))


def test_a_dead_tensor_gets_a_positive_scale(model: onnx.ModelProto, plan: Plan, ranges: Ranges) -> None:
    last = plan.tensors[-1]
    dead = insert_qdq(model, plan, Ranges({**ranges.tensors, last: TensorRange(0.0)}))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in dead.graph.initializer}
    assert stored[f"{last}_scale"] > 0


@pytest.mark.parametrize("axis", [0, 1, None])
def test_weight_scales(axis: int | None) -> None:
    weight = np.random.default_rng(0).normal(size=(6, 4, 3, 3)).astype(np.float32)
    if axis == 0:
        weight[2] = 0  # a pruned channel
    scale = weight_scale(weight, axis)
    assert scale.shape == (() if axis is None else (weight.shape[axis],))
    levels = quantize_weight(weight, scale, axis)
    shape = [1] * 4
    if axis is not None:
        shape[axis] = -1
    assert np.abs(levels * scale.reshape(shape) - weight).max() <= scale.max() / 2 + 1e-7
    assert np.abs(levels).max() == 127


def test_what_is_never_negative_gets_all_levels_for_onnxruntime(model: onnx.ModelProto, images: np.ndarray) -> None:
    """Half the step behind every ReLU, the ReLU itself gone into the quantization, and the residual Adds integer."""
    plan = place(view_of(model), PlacementOptions(add_both=True, head_float=False))
    maxima = maxima_of(collect(model, [{"image": images}], plan.tensors))
    signed = insert_qdq(model, plan, Ranges({name: TensorRange(amax) for name, amax in maxima.items()}))
    symmetric, affine = for_onnxruntime(signed), for_onnxruntime(signed, affine=True)
    kinds = Counter(node.op_type for node in affine.graph.node)
    assert kinds["Relu"] == kinds["Clip"] == 0
    assert Counter(node.op_type for node in symmetric.graph.node)["Clip"] > 0
    reference = run(model, images)
    assert sqnr(reference, run(affine, images)) > sqnr(reference, run(symmetric, images)) + 1
    # The ReLU that was taken out is in the numbers still.
    # But for a bias rounded to INT32.
    np.testing.assert_allclose(
        run(affine_activations(signed), images, optimize=False), run(affine, images, optimize=False), atol=1e-4
    )
