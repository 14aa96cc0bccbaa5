"""Adaptive rounding: the sum that it lowers is the layer's real output error, and no weight leaves its two integers."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ort_outputs import InnerTensors
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.data.sources import at_most, dataset_source, feeds
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.graph.surgery import copied
from quantbench.images.preprocess import Preprocess
from quantbench.ort import create_session
from quantbench.qdq.adaptive_rounding import Rounding, round_adaptively
from quantbench.qdq.correct_bias import correct_bias
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.moments import Inputs, Sum, as_matrix, as_weight, matrix_shape
from quantbench.qdq.patches import conv_rows, matrix_rows, window_of
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.qdq.quantized_layers import QuantizedLayer, quantized_layers
from quantbench.qdq.round_matrix import damped, output_error, round_matrix
from quantbench.qdq.simulate import simulated
from quantbench.qdq.weights import quantize_weight, weight_scale

MODELS = Path(__file__).parents[1] / "data" / "models"
Feeds = list[dict[str, np.ndarray]]
Case = tuple[onnx.ModelProto, Plan, Ranges, Feeds, Feeds]


@pytest.fixture(scope="module", params=["animals_mobilenetv2", "vit-animals"])
def case(request: pytest.FixtureRequest) -> Case:
    """A trained network, its plan and ranges, and pictures to round on and others to judge on."""
    model = load_model(MODELS / f"{request.param}.onnx")
    name = model.graph.input[0].name
    grey = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
    parts = (at_most(dataset_source(f"animal-mnist?split={split}", grey), 32) for split in ("train", "test"))
    train, test = (list(feeds(part, name, 16)) for part in parts)
    plan = place(view_of(model))
    maxima = maxima_of(collect(model, train, plan.tensors, threads=1))
    return model, plan, Ranges({name: TensorRange(amax) for name, amax in maxima.items()}), train, test


@pytest.fixture(scope="module")
def pair(case: Case) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The Q/DQ model with weights to the nearest, and rounded."""
    model, plan, ranges, train, _ = case
    nearest = insert_qdq(model, plan, ranges)
    return nearest, round_adaptively(nearest, Rounding(lambda: train, 32, 1)).model


def steps(layer: QuantizedLayer) -> np.ndarray:
    shape = [1] * layer.weight.ndim
    if layer.axis is not None:
        shape[layer.axis] = -1
    return layer.scale.reshape(shape)


def errors(plain: onnx.ModelProto, rounded: dict[str, np.ndarray], layers: list[QuantizedLayer], data: Feeds):
    """Squared error of each layer's output on real activations: weights to the nearest, and `rounded`."""
    inputs = Inputs(plain, layers, threads=1)
    total = np.zeros((len(layers), 2))
    for part in (part for feed in data for part in inputs.parts(feed)):
        for index, rows in enumerate(inputs.rows(part, dict.fromkeys((x.node.name for x in layers), 32))):
            layer = layers[index]
            integers = quantize_weight(layer.weight, layer.scale, layer.axis)
            for side, values in enumerate((integers * steps(layer), rounded[layer.tensor])):
                error = as_matrix(layer, values) - as_matrix(layer, layer.weight)
                total[index, side] += np.square(rows @ error.transpose(0, 2, 1)).sum()
    return total


def test_outputs_come_nearer_on_other_pictures_and_weights_stay_on_their_two_integers(case: Case, pair) -> None:
    nearest, rounded = pair
    layers = list(quantized_layers(nearest))
    new = {layer.tensor: layer.weight for layer in quantized_layers(rounded)}
    moved = 0
    for layer in layers:
        exact, taken = layer.weight.astype(np.float64) / steps(layer), new[layer.tensor] / steps(layer)
        integers = np.rint(taken)
        changed = not np.array_equal(layer.weight, new[layer.tensor])
        if changed:
            # Exactly what DQ makes of the integers, and Q finds them again.
            np.testing.assert_array_equal(new[layer.tensor], integers.astype(np.float32) * steps(layer))
            np.testing.assert_array_equal(quantize_weight(new[layer.tensor], layer.scale, layer.axis), integers)
            assert np.abs(integers - exact).max() < 1
            assert np.abs(integers).max() <= 127
            moved += int(np.count_nonzero(integers != np.rint(exact)))
    assert moved > 1000
    found = errors(simulated(nearest), new, layers, case[4])
    found = found[found[:, 1] > 0]  # a layer of powers of two has no error
    gains = 10 * np.log10(found[:, 0] / found[:, 1])
    assert np.median(gains) > 1.0
    assert gains.min() > -0.5


def with_weights_of(model: onnx.ModelProto, quantized: onnx.ModelProto) -> onnx.ModelProto:
    """The float network with the weights alone that `quantized` has."""
    result = copied(model)
    stored = {tensor.name: tensor for tensor in result.graph.initializer}
    for layer in quantized_layers(quantized):
        values = quantize_weight(layer.weight, layer.scale, layer.axis) * steps(layer)
        stored[layer.tensor].CopyFrom(numpy_helper.from_array(values, layer.tensor))
    return result


def test_the_network_of_rounded_weights_comes_nearer_and_comes_out_again(case: Case, pair) -> None:
    model, _, _, train, test = case
    again = round_adaptively(pair[0], Rounding(lambda: train, 32, 1)).model
    assert again.SerializeToString() == pair[1].SerializeToString()
    alone = [model, *(with_weights_of(model, each) for each in pair)]
    reference, *others = (np.concatenate([create_session(m).run(None, feed)[0] for feed in test]) for m in alone)
    noise = [float(np.square(other - reference).sum()) for other in others]
    assert noise[1] < 0.8 * noise[0]


def test_a_limit_of_no_time_leaves_the_model_and_names_the_layers(case: Case, pair) -> None:
    train = case[3]
    found = round_adaptively(pair[0], Rounding(lambda: train, 32, 1, limit_seconds=0.0))
    assert found.facts is not None
    assert found.facts.layers == ()
    assert found.model.SerializeToString() == pair[0].SerializeToString()
    assert set(found.facts.left_out) <= {layer.node.name for layer in quantized_layers(pair[0])}
    assert len(found.facts.left_out) > 5
    assert "under" in found.facts.in_words()


def test_biases_are_corrected_against_the_float_weights(case: Case) -> None:
    """What is corrected is the error from the float network, not from weights that lie on the grid already."""
    model, plan, ranges, train, _ = case
    rounded = round_adaptively(insert_qdq(model, plan, ranges), Rounding(lambda: train, 32, 1))
    first = next(iter(quantized_layers(rounded.model)))
    assert first.tensor in rounded.floats

    def mean(network: onnx.ModelProto) -> np.ndarray:
        inner = InnerTensors(network, [first.node.output[0]], threads=1, fuse_qdq=False)
        values = np.concatenate([array for feed in train for _, array in inner.run(feed)])
        result: np.ndarray = values.mean(axis=(0, *range(2, values.ndim)))
        return result

    known, unknown = (
        np.abs(mean(correct_bias(rounded.model, lambda: train, floats=floats, threads=1)) - mean(model)).mean()
        for floats in (rounded.floats, None)
    )
    assert known < 0.1 * unknown


@pytest.mark.parametrize("seed", range(4))
def test_no_move_of_one_weight_is_left_and_the_best_of_all_is_near(seed: int) -> None:
    """Against all 2^8 roundings of a row; inputs correlate, as neighbours in a picture do."""
    random = np.random.default_rng(seed)
    columns = 8
    rows = random.normal(size=(200, columns)) @ random.normal(size=(columns, columns)) + 1.0
    moments = damped((rows.T @ rows / len(rows))[None])
    weight, scale = random.normal(size=(1, 3, columns)), np.full((1, 3, 1), 0.1)
    taken, moved = round_matrix(weight, scale, moments)
    nearest = np.rint(weight / scale)
    assert moved == np.count_nonzero(taken != nearest)
    low = np.floor(weight / scale)
    assert set(np.unique(taken - low)) <= {0.0, 1.0}
    for row in range(3):
        part = weight[:, row : row + 1]
        found, before = (output_error(q[:, row : row + 1] * 0.1 - part, moments) for q in (taken, nearest))
        every = [
            output_error((low[:, row : row + 1] + np.array(bits)) * 0.1 - part, moments)
            for bits in itertools.product((0, 1), repeat=columns)
        ]
        assert min(every) - 1e-12 <= found <= before
        flips = (
            np.where(np.arange(columns) == k, 2 * low[0, row] + 1 - taken[0, row], taken[0, row])
            for k in range(columns)
        )
        assert all(output_error(flip[None, None] * 0.1 - part, moments) >= found - 1e-12 for flip in flips)


def test_moments_add_up_over_batches() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 12, 3))
    total = Sum(np.zeros((2, 3, 3)))
    total.add(rows[:, :5])
    total.add(rows[:, 5:])
    np.testing.assert_allclose(total.moments(), rows.transpose(0, 2, 1) @ rows / 12)


CONVS = [
    ((2, 4, 9, 7), (6, 4, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ((1, 4, 11, 8), (8, 2, 3, 2), {"group": 2, "dilations": [2, 3]}),
    ((2, 6, 10, 9), (6, 1, 5, 5), {"group": 6, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((2, 3, 8, 8), (4, 3, 4, 4), {"auto_pad": "SAME_LOWER"}),
    ((2, 3, 8, 8), (4, 3, 3, 3), {"auto_pad": "VALID"}),
    ((3, 5, 20), (4, 5, 7), {"pads": [3, 2], "strides": [3]}),
    ((1, 2, 5, 6, 4), (3, 2, 2, 3, 2), {"pads": [0, 1, 1, 1, 0, 0]}),
]


@pytest.mark.parametrize(("shape", "kernel", "attributes"), CONVS)
def test_patches_times_the_weight_are_the_conv(shape, kernel, attributes) -> None:
    random = np.random.default_rng(0)
    x, w = (random.normal(size=size).astype(np.float32) for size in (shape, kernel))
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)], [numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    want = create_session(model).run(None, {"x": x})[0]
    groups = int(attributes.get("group", 1))
    matrix = w.reshape(groups, kernel[0] // groups, -1)
    rows = conv_rows(x, window_of(node, kernel[2:]), 10**6, random)
    got = rows @ matrix.transpose(0, 2, 1)  # [groups, N * positions, outputs]
    got = got.reshape(groups, shape[0], -1, matrix.shape[1]).transpose(1, 0, 3, 2).reshape(want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    few = conv_rows(x, window_of(node, kernel[2:]), 3, random)
    assert few.shape == (groups, 3 * shape[0], matrix.shape[2])
    assert all((rows[0] == row).all(axis=1).any() for row in few[0])


def test_rows_of_a_matrix_are_drawn_from_all() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    assert matrix_rows(values, 9, np.random.default_rng(0)).shape == (1, 8, 3)
    few = matrix_rows(values, 2, np.random.default_rng(0))
    assert few.shape == (1, 4, 3)
    assert set(few[0, :, 0]) <= set(values[..., 0].reshape(-1))


def test_a_matrix_goes_back_to_its_weight(pair) -> None:
    for layer in quantized_layers(pair[0]):
        matrix = as_matrix(layer, layer.weight)
        assert matrix.shape == matrix_shape(layer)
        np.testing.assert_array_equal(as_weight(layer, matrix), layer.weight)


def test_scales_of_the_least_squared_error() -> None:
    """A channel with one weight far from all others gives that one up; no channel gets worse."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 4096)).astype(np.float32)
    weight[2, 7] = 8.0
    weight[4] = 0.0
    largest, best = weight_scale(weight, 0), weight_scale(weight, 0, "mse")
    squared = [
        np.square(quantize_weight(weight, scale, 0) * scale[:, None] - weight).sum(axis=1) for scale in (largest, best)
    ]
    assert (squared[1] <= squared[0]).all()
    assert squared[1][2] < 0.95 * squared[0][2]
    assert best[4] == largest[4] > 0
    whole = weight_scale(weight, None, "mse")
    assert whole.shape == ()
    assert 0 < whole <= weight_scale(weight, None)
