"""Biases: corrected by the mean over every position, and never too large for INT32, on all roads."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.core.quantize import for_onnxruntime
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from quantbench.qdq import mean_inputs
from quantbench.qdq.bias_range import LARGEST_BIAS, smallest_scales
from quantbench.qdq.correct_bias import _mean_errors, _sites, correct_bias
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.integer_activation import activations_on_integers
from quantbench.qdq.mean_inputs import MeanLayer
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.reencode import with_int8_weights
from quantbench.qdq.simulate import simulated

RNG = np.random.default_rng(5)
EVERYTHING = PlacementOptions(head_float=False, tiny_channels=0)


def network(
    nodes: Sequence[onnx.NodeProto], weights: Mapping[str, np.ndarray], shape: Sequence[object], rank: int = 2
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return normalise(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def quantized(model: onnx.ModelProto, x: np.ndarray, share: float = 1.0) -> onnx.ModelProto:
    plan = place(view_of(model), EVERYTHING)
    maxima = maxima_of(collect(model, [{"x": x}], plan.tensors))
    return insert_qdq(model, plan, Ranges({n: TensorRange(share * m) for n, m in maxima.items()}))


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    result: np.ndarray = create_session(model).run(None, {"x": x})[0]
    return result


def sqnr(signal: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10((signal**2).sum() / ((signal - other) ** 2).sum()))


def rows(*shape: int) -> np.ndarray:
    """Activations with a mean, so that clipping them leaves a mean error."""
    return (np.abs(RNG.normal(size=shape)) + 0.1).astype(np.float32)


W = (RNG.normal(size=(16, 12)) / 4).astype(np.float32)
B = RNG.normal(size=12).astype(np.float32)


def gemm_on_merged_rows(beta: float) -> tuple[onnx.ModelProto, np.ndarray]:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["rows"]),
        helper.make_node("Gemm", ["rows", "w", "b"], ["y"], beta=beta),
    ]
    return network(nodes, {"shape": np.asarray([-1, 16], np.int64), "w": W, "b": B}, ["n", 50, 16]), rows(8, 50, 16)


def matmul_and_add() -> tuple[onnx.ModelProto, np.ndarray]:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["b", "p"], ["y"])]
    return network(nodes, {"w": W, "b": B}, ["n", 50, 16], 3), rows(8, 50, 16)


def conv_on_merged_frames() -> tuple[onnx.ModelProto, np.ndarray]:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["frames"]),
        helper.make_node("Conv", ["frames", "w", "b"], ["y"], kernel_shape=[1, 1]),
    ]
    weight = np.ascontiguousarray(W.T)[:, :, None, None]
    shape = np.asarray([-1, 16, 5, 5], np.int64)
    return network(nodes, {"shape": shape, "w": weight, "b": B}, ["n", 4, 16, 5, 5], 4), rows(4, 4, 16, 5, 5)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize(
    "case",
    [lambda: gemm_on_merged_rows(1.0), lambda: gemm_on_merged_rows(0.25), matmul_and_add, conv_on_merged_frames],
    ids=["gemm", "beta", "matmul", "frames"],
)
def test_the_mean_is_over_every_position(case, static: bool) -> None:
    """Rows behind a Reshape are no images: the error was summed over rows and divided by images."""
    model, x = case()
    if static:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = len(x) // 2
    plain = quantized(model, x[: len(x) // 2], share=0.6)
    parts = [x[: len(x) // 2], x[len(x) // 2 :]]
    corrected = correct_bias(plain, lambda: [{"x": part} for part in parts])
    channel = 1 if model.graph.node[-1].op_type == "Conv" else -1
    want = np.concatenate([run(model, part) for part in parts])
    got, before = (np.concatenate([run(m, part) for part in parts]) for m in (corrected, plain))
    others = tuple(i for i in range(want.ndim) if i != channel % want.ndim)
    assert np.abs((got - want).mean(axis=others)).max() < 0.01 * np.abs((before - want).mean(axis=others)).max()
    assert sqnr(want, got) > sqnr(want, before)


def test_a_bias_that_beta_switches_off_stays_off() -> None:
    model, x = gemm_on_merged_rows(0.0)
    corrected = correct_bias(quantized(model, x, share=0.6), lambda: [{"x": x}])
    want = run(model, x)
    assert np.abs((run(corrected, x) - want).mean(axis=0)).max() < 1e-3


def test_layers_are_corrected_in_order() -> None:
    """The second layer's error is measured on what the corrected first one gives."""
    weights = {"shape": np.asarray([-1, 16], np.int64)}
    nodes, source = [helper.make_node("Reshape", ["x", "shape"], ["r0"])], "r0"
    for i in range(3):
        weights[f"w{i}"] = (RNG.normal(size=(16, 16)) / 3).astype(np.float32)
        weights[f"b{i}"] = RNG.normal(size=16).astype(np.float32)
        out = "y" if i == 2 else f"a{i}"
        nodes += [helper.make_node("Gemm", [source, f"w{i}", f"b{i}"], [f"g{i}" if i < 2 else "y"])]
        nodes += [helper.make_node("Relu", [f"g{i}"], [out])] if i < 2 else []
        source = out
    model, x = network(nodes, weights, ["n", 50, 16]), rows(8, 50, 16)
    plain = quantized(model, x, share=0.8)
    corrected = correct_bias(plain, lambda: [{"x": x}])
    errors = _mean_errors(simulated(corrected), _sites(corrected, {}), [{"x": x}], 0, None)
    stored = [{t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (plain, corrected)]
    for node in plain.graph.node:
        if node.op_type == "Gemm":
            twin = next(n for n in corrected.graph.node if n.name == node.name)
            change = stored[1][twin.input[2]] - stored[0][node.input[2]]
            assert np.abs(errors[node.name] - change).max() < 0.1 * np.abs(change).max()


def test_layers_of_large_weights_run_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {f"w{i}": RNG.normal(0, 0.3, (16, 16, 3, 3)).astype(np.float32) for i in range(4)}
    weights |= {f"b{i}": np.zeros(16, np.float32) for i in range(4)}
    nodes = [
        helper.make_node("Conv", [f"h{i}" if i else "x", f"w{i}", f"b{i}"], [f"h{i + 1}" if i < 3 else "y"], f"c{i}",
                         pads=[1, 1, 1, 1])
        for i in range(4)
    ]  # fmt: skip
    x = rows(4, 16, 8, 8)
    plain = quantized(network(nodes, weights, ["n", 16, 8, 8], 4), x, share=0.6)
    whole = correct_bias(plain, lambda: [{"x": x}], threads=1)
    monkeypatch.setattr(mean_inputs, "_MOST_BYTES", 2 * weights["w0"].nbytes)
    sites = _sites(plain, {})
    layers = [MeanLayer(site.node, site.source, site.levels, site.weight) for site in sites]
    assert [len(part) for part in mean_inputs._parts(layers)] == [2, 2]
    parts = correct_bias(plain, lambda: [{"x": x}], threads=1)
    biases = [
        {n.name: numpy_helper.to_array(n) for n in m.graph.initializer if n.name.endswith("bias_corrected")}
        for m in (whole, parts)
    ]
    assert len(biases[0]) == 4
    for name, values in biases[0].items():
        np.testing.assert_array_equal(values, biases[1][name])


def with_dead_channels(op: str, tiny: float) -> tuple[onnx.ModelProto, np.ndarray]:
    """A layer whose first three channels have weights of `tiny` and an ordinary bias, and one behind it, without which
    onnxruntime would compute it in float."""
    channels = 12
    weight = (RNG.normal(size=(channels, 1, 3, 3)) / 3).astype(np.float32)
    attributes = {"group": channels, "pads": [1, 1, 1, 1]}
    x = RNG.normal(size=(4, channels, 8, 8)).astype(np.float32)
    shape: list[object] = ["n", channels, 8, 8]
    if op == "Gemm":
        weight, attributes = W.copy(), {"beta": 2.0}
        x, shape = RNG.normal(size=(32, 16)).astype(np.float32), ["n", 16]
        weight[:, :3] *= tiny
    elif op == "ConvTranspose":  # [C, K/g, 3, 3], 2 groups: output channels 0 and 6 share a scale
        weight = (RNG.normal(size=(channels, channels // 2, 3, 3)) / 3).astype(np.float32)
        weight[:, :3] *= tiny
        attributes["group"] = 2
    else:
        weight[:3] *= tiny
    behind = np.eye(channels, dtype=np.float32)
    nodes = [helper.make_node(op, ["x", "w", "b"], ["a"], **attributes)]
    nodes.append(helper.make_node("Gemm" if op == "Gemm" else "Conv", ["a", "eye"], ["y"]))
    eye = behind if op == "Gemm" else behind[:, :, None, None]
    return network(nodes, {"w": weight, "b": B - 1, "eye": eye}, shape, x.ndim), x


@pytest.mark.parametrize("int8_weights", [False, True])
@pytest.mark.parametrize("tiny", [0.0, 1e-9, 1e-12])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_a_dead_channel_keeps_its_bias(op: str, tiny: float, int8_weights: bool) -> None:
    """bias / (s_x s_w) fits INT32; a channel of -1.19 came out as -0.0004."""
    model, x = with_dead_channels(op, tiny)
    made = quantized(model, x)
    found = for_onnxruntime(with_int8_weights(made) if int8_weights else made)
    assert sqnr(run(model, x), run(found, x)) > 35


def test_a_foreign_model_is_mended_for_onnxruntime() -> None:
    """A Q/DQ model of another tool, with the scale that a tiny channel has by max |w| / 127."""
    model, x = with_dead_channels("Conv", 1e-9)
    foreign = quantized(model, x)
    weight = model.graph.initializer[0]
    tiny = np.abs(numpy_helper.to_array(weight)).max(axis=(1, 2, 3)) / 127
    for node in foreign.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and "w_" in node.name:
            node.input[1] = "foreign"
    foreign.graph.initializer.append(numpy_helper.from_array(tiny, "foreign"))
    want = run(model, x)
    assert sqnr(want, run(activations_on_integers(foreign), x)) < 10
    assert sqnr(want, run(for_onnxruntime(foreign), x)) > 35


def test_ordinary_scales_stay_as_they_are() -> None:
    least = smallest_scales(np.asarray([1.0, 0.0]), 0.01)
    assert least[0] == pytest.approx(100 / LARGEST_BIAS)
    model, x = with_dead_channels("Conv", 1.0)
    scales = [numpy_helper.to_array(t) for t in quantized(model, x).graph.initializer if t.name == "w_scale"]
    weight = numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_array_equal(scales[0], np.abs(weight).max(axis=(1, 2, 3)) / np.float32(127))
