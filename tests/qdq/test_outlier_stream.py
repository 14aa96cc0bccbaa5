"""A residual stream with one channel at 200 times the rms of the others, as large transformers grow them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantbench.calibration.collect import collect
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.ort_outputs import InnerTensors
from quantbench.calibration.ranges import Ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.fold_by_outputs import Foldable, fold_by_outputs, fold_samples
from quantbench.core.quantize import for_onnxruntime
from quantbench.core.signal import rows_of
from quantbench.data.sources import at_most, dataset_source, feeds
from quantbench.folding.options import FoldOptions
from quantbench.folding.smooth import ALPHAS
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.graph.view import GraphView
from quantbench.images.preprocess import Preprocess
from quantbench.ort import create_session
from quantbench.qdq.carry_out import Correction, carry_out
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import ActivationSite, Plan
from quantbench.qdq.rules.streams import normalised_streams
from quantbench.records.folded import Folded, Mode

VIT = Path(__file__).parents[1] / "data" / "models" / "vit-animals.onnx"
CHANNEL, TIMES, START = 5, 200.0, "add_17"

Feeds = list[dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def pictures() -> tuple[Feeds, Feeds]:
    grey = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
    parts = (at_most(dataset_source(f"animal-mnist?split={split}", grey), 48) for split in ("train", "test"))
    train, test = (list(feeds(part, "image", 16)) for part in parts)
    return train, test


@pytest.fixture(scope="module")
def planted(pictures: tuple[Feeds, Feeds]) -> tuple[onnx.ModelProto, GraphView]:
    """The trained ViT with a constant added to one channel of its stream. The norms make up for the mean and variance
    that it brings, and shut the channel out, as trained networks with such channels do."""
    model = load_model(VIT)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}

    def change(name: str, values: np.ndarray) -> None:
        stored[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))

    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    streams = [START, *(node.input[0] for node in norms)]
    before = dict(InnerTensors(model, list(dict.fromkeys(streams)), threads=1).run(pictures[0][0]))
    largest = TIMES * max(float(np.sqrt((stream**2).mean())) for stream in before.values())
    place_of = next(node.input[1] for node in model.graph.node if node.output[0] == START)
    positions = numpy_helper.to_array(stored[place_of]).copy()
    positions[..., CHANNEL] += largest
    change(place_of, positions)
    for node in norms:
        gamma = numpy_helper.to_array(stored[node.input[1]]).copy()
        gamma *= largest / len(gamma) ** 0.5 / before[node.input[0]].std()
        gamma[CHANNEL] = 0
        change(node.input[1], gamma)
        # The channel also moves the mean that the norm takes off the others.
        change(node.input[2], numpy_helper.to_array(stored[node.input[2]]) + gamma / len(gamma) ** 0.5)
    for _, stream in InnerTensors(model, list(before), threads=1).run(pictures[0][0]):
        others = np.delete(stream, CHANNEL, axis=-1)
        assert np.abs(stream[..., CHANNEL]).min() > 0.5 * TIMES * np.sqrt((others**2).mean())
    return model, view_of(model)


def with_streams(view: GraphView, plan: Plan) -> Plan:
    """`plan` with Q/DQ on both inputs of every Add of the stream, as tools do that quantize whatever has a kernel."""
    streams = normalised_streams(view)
    adds = [node for node in view.nodes if node.name in streams]
    sites = (ActivationSite(n.inputs[i], n.name, i, n.inputs[i], "stream") for n in adds for i in (0, 1))
    return replace(plan, activations=(*plan.activations, *sites))


def sqnr(model: onnx.ModelProto, plan: Plan, ranges: Ranges, pictures: tuple[Feeds, Feeds]) -> float:
    made = carry_out(model, plan, ranges, Correction(lambda: pictures[0], 48, 1), residual_db=15.0).model
    sessions = [create_session(m, threads=1) for m in (model, for_onnxruntime(made))]
    energies = np.zeros(2)
    for feed in pictures[1]:
        plain, int8 = (session.run(None, feed)[0] for session in sessions)
        energies += (plain**2).sum(), ((plain - int8) ** 2).sum()
    return float(10 * np.log10(energies[0] / energies[1]))


def smoothed(model: onnx.ModelProto, feeds: Feeds, how: Mode = "on") -> tuple[onnx.ModelProto, Folded]:
    view = view_of(model)
    samples = fold_samples(48, lambda indices: lambda: rows_of(feeds, indices))
    given = Foldable(model, view, place(view), samples, threshold_method("mse"), threads=1)
    return fold_by_outputs(given, FoldOptions(smooth=how))


def by_mse(model: onnx.ModelProto, plan: Plan, feeds: Feeds) -> Ranges:
    return find_ranges(collect(model, feeds, plan.tensors, threads=1), "mse", threshold_method("mse"))


def test_smoothquant_leaves_the_linears_of_an_outlier_stream_in_int8(
    planted: tuple[onnx.ModelProto, GraphView], pictures: tuple[Feeds, Feeds]
) -> None:
    model, view = planted
    made, folded = smoothed(model, pictures[0])
    assert folded.taken == ("smooth",)
    plan = place(view_of(made))
    assert plan == place(view)
    assert len(plan.weights) == 13
    float_stream = place(view, PlacementOptions(residual=False))
    ours = sqnr(made, plan, by_mse(made, plan, pictures[0]), pictures)
    assert ours >= sqnr(model, float_stream, by_mse(model, float_stream, pictures[0]), pictures) - 1.0


def test_smoothquant_gains_where_norms_let_a_loud_channel_through(pictures: tuple[Feeds, Feeds]) -> None:
    """As in language models: the norm gives one channel 100 times the others, its row of the weights is small."""
    model = load_model(VIT)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    norms = {node.output[0]: node for node in model.graph.node if node.op_type == "LayerNormalization"}
    turned = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Transpose"}
    norms |= {name: norms[source] for name, source in turned.items() if source in norms}
    readers = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[0] in norms]
    assert len(readers) == 6
    for node in readers:
        norm = norms[node.input[0]]
        for name, by in ((norm.input[1], 100), (norm.input[2], 100), (node.input[1], 0.01)):
            values = numpy_helper.to_array(stored[name]).copy()
            values[CHANNEL] *= by
            stored[name].CopyFrom(numpy_helper.from_array(values, name))
    plan = place(view_of(model))
    made, folded = smoothed(model, pictures[0], "auto")
    assert folded.taken == ("smooth",)
    assert {site.alpha for site in folded.sites} <= set(ALPHAS)
    before, after = (sqnr(m, plan, by_mse(m, plan, pictures[0]), pictures) for m in (model, made))
    assert after > before + 5.0
    assert after > 25.0


def test_an_outlier_in_the_stream_costs_nothing_that_a_float_stream_does_not(
    planted: tuple[onnx.ModelProto, GraphView], pictures: tuple[Feeds, Feeds]
) -> None:
    model, view = planted
    ours, float_stream = place(view), place(view, PlacementOptions(residual=False))
    full = with_streams(view, ours)
    histograms = collect(model, pictures[0], full.tensors, threads=1)
    ranges = find_ranges(histograms, "mse", threshold_method("mse"))
    found = {name: sqnr(model, plan, ranges, pictures) for name, plan in (
        ("ours", ours), ("float stream", float_stream), ("full", full))}  # fmt: skip
    assert len(ours.weights) == len(full.weights) == 13  # its Linears in INT8 all the same
    assert found["ours"] >= found["float stream"] - 1.0
    assert found["ours"] > 15.0
    assert found["full"] < 5.0
