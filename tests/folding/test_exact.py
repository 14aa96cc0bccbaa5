"""Whatever the scales, a folded network computes what it did."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from quantbench.folding.channels import Channels
from quantbench.folding.fold import Scales, fold
from quantbench.folding.rows import known_shapes, shapes_of
from quantbench.folding.walk import find_channels
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from tests.folding.networks import convs, network, tokens

MODELS = Path(__file__).parents[1] / "data" / "models"


def data_for(model: onnx.ModelProto, count: int = 2) -> dict[str, np.ndarray]:
    value = model.graph.input[0]
    shape = [dim.dim_value or count for dim in value.type.tensor_type.shape.dim]
    return {value.name: np.random.default_rng(1).normal(size=[count, *shape[1:]]).astype(np.float32)}


def channels_of(model: onnx.ModelProto) -> Channels:
    view = view_of(model)
    return find_channels(model, view, shapes_of(model, view, data_for(model), threads=1))


def by_chance(channels: Channels) -> Scales:
    """Scales from 1/8 to 8 wherever there may be one, but for channels that a Clip binds."""
    scales = np.exp2(np.random.default_rng(2).uniform(-3, 3, channels.count))
    scales[list(channels.pinned)] = 1.0
    for bound in channels.bounds:
        scales[channels.class_of[bound.ids]] = 1.0
    return scales


def outputs(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return create_session(model, threads=1).run(None, feed)


def assert_same(first: onnx.ModelProto, second: onnx.ModelProto) -> None:
    feed = data_for(first)
    for a, b in zip(outputs(first, feed), outputs(second, feed), strict=True):
        assert np.abs(a - b).max() <= 2e-5 * np.abs(a).max()


@pytest.mark.parametrize(("make", "sites"), [(convs, 3), (tokens, 6)])
def test_a_network_of_every_kind_of_layer_gives_the_same_with_scales_by_chance(
    make: Callable[[], onnx.ModelProto], sites: int
) -> None:
    model = make()
    channels = channels_of(model)
    scales = by_chance(channels)
    assert len(channels.sites) == sites
    folded = fold(model, channels, scales)
    assert [node.op_type for node in folded.graph.node] == [node.op_type for node in model.graph.node]
    assert sum(a.SerializeToString() != b.SerializeToString()
               for a, b in zip(model.graph.initializer, folded.graph.initializer, strict=False)) > 5  # fmt: skip
    assert_same(model, folded)


@pytest.mark.parametrize("name", ["vit-animals", "convnext-animals", "animals_resnet18", "mobilenetv2-digits"])
def test_real_networks_give_the_same_with_scales_by_chance(name: str) -> None:
    model = load_model(MODELS / f"{name}.onnx")
    channels = channels_of(model)
    assert channels.sites
    assert_same(model, fold(model, channels, by_chance(channels)))


def test_a_constant_that_others_read_too_is_copied() -> None:
    model = network(
        """net (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y) {
            a = Conv (x, w0, b)
            r = Relu (a)
            c = Conv (r, w1, b)
            y = Sigmoid (c)
        }""",
        w0=(4, 4, 1, 1), w1=(4, 4, 1, 1), b=(4,),
    )  # fmt: skip
    channels = channels_of(model)
    folded = fold(model, channels, by_chance(channels))
    assert_same(model, folded)
    assert {tensor.name for tensor in folded.graph.initializer} > {tensor.name for tensor in model.graph.initializer}


@pytest.mark.parametrize(
    ("between", "said"),
    [
        ("s = Sigmoid (a) r = Mul (a, s)", "Sigmoid"),
        ("r = HardSwish (a)", "HardSwish"),
        ("t = Tanh (a) r = Relu (t)", "Tanh"),
        ("r = Clip (a, half, six)", "Clip"),
        ("t = Transpose <perm = [0, 1, 3, 2]> (a) r = Softmax <axis = 1> (t)", "Softmax"),
    ],
)
def test_what_does_not_commute_with_a_scale_is_refused_with_its_name(between: str, said: str) -> None:
    model = network(
        f"""net (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y) {{
            a = Conv (x, w0)
            {between}
            y = Conv (r, w1)
        }}""",
        w0=(4, 4, 1, 1), w1=(4, 4, 1, 1), half=np.array(0.5), six=np.array(6.0),
    )  # fmt: skip
    channels = channels_of(model)
    assert not channels.sites
    reasons = {pinned.node: pinned.reason for pinned in channels.refused}
    assert said in reasons["node_of_y"]
    assert_same(model, fold(model, channels, by_chance(channels)))


def test_an_output_of_the_network_and_a_shared_weight_are_left_alone() -> None:
    model = network(
        """net (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] r, float[N, 4, 8, 8] y) {
            a = Conv (x, w)
            r = Relu (a)
            c = Conv (r, w)
            y = Conv (c, v)
        }""",
        w=(4, 4, 1, 1), v=(4, 4, 1, 1),
    )  # fmt: skip
    channels = channels_of(model)
    assert not channels.sites
    assert_same(model, fold(model, channels, by_chance(channels)))


@pytest.mark.parametrize("name", ["vit-animals", "convnext-animals", "animals_resnet18", "swin-digits", "digit-detr"])
def test_shapes_are_told_without_a_run(name: str) -> None:
    model = load_model(MODELS / f"{name}.onnx")
    view = view_of(model)
    feed = data_for(model)
    known = known_shapes(model, view, feed)
    assert known is not None
    assert known == shapes_of(model, view, feed, threads=1)


def test_wrong_shapes_in_the_file_are_passed_over() -> None:
    model = convs()
    plain = known_shapes(model, view_of(model), data_for(model))
    wrong = next(value for value in view_of(model).nodes if value.op == "MaxPool").outputs[0]
    del model.graph.value_info[:]
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(wrong, onnx.TensorProto.FLOAT, [1, 8, 5, 5]))
    assert plain is not None
    assert known_shapes(model, view_of(model), data_for(model)) == plain


def test_a_shape_that_hangs_on_values_is_left_to_a_run() -> None:
    model = network(
        """net (float[N, 4] x) => (float[N, M] y) {
            places = NonZero (x)
            few = Cast <to = 1> (places)
            y = Add (few, few)
        }"""
    )
    assert known_shapes(model, view_of(model), data_for(model)) is None
