"""Skip connections whose range drowns most values stay float, by what calibration saw."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from quantbench.calibration.collect import collect
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.histogram import Histogram, empty
from quantbench.calibration.noise import bulk_sqnr_db
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.calibration.sweep import histogram_of
from quantbench.calibration.thresholds import threshold_method
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import view_of
from quantbench.qdq.guard import guarded
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place

C = 64


def blocks(outlier: float) -> onnx.ModelProto:
    """Four residual blocks behind a stem of which one channel, that no block reads, is `outlier` times larger."""
    rng = np.random.default_rng(1)
    weights: dict[str, np.ndarray] = {}

    def conv(name: str, source: str, end: str, scale: float = 1.0, reads: int = C) -> onnx.NodeProto:
        weights[f"{name}.w"] = (scale * rng.normal(size=(C, reads, 1, 1)) / reads**0.5).astype(np.float32)
        if name.startswith(("a", "last")):
            weights[f"{name}.w"][:, 0] = 0
        return helper.make_node("Conv", [source, f"{name}.w"], [end], name=name)

    nodes = [conv("stem", "x", "stem_out", reads=4), helper.make_node("Relu", ["stem_out"], ["r0"], name="relu")]
    weights["stem.w"][0] = np.abs(weights["stem.w"][0]) * outlier
    for i in range(4):
        nodes += [conv(f"a{i}", f"r{i}", f"p{i}"), helper.make_node("Relu", [f"p{i}"], [f"q{i}"], name=f"relu{i}"),
                  conv(f"b{i}", f"q{i}", f"t{i}", 0.5),
                  helper.make_node("Add", [f"r{i}", f"t{i}"], [f"r{i + 1}"], name=f"add{i}")]  # fmt: skip
    nodes += [conv("last", "r4", "y")]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", C, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return normalise(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.mark.parametrize(("outlier", "kept"), [(1.0, {"add0", "add1", "add2", "add3"}), (300.0, set())])
def test_a_skip_with_an_outlier_channel_stays_float(outlier: float, kept: set[str]) -> None:
    model = blocks(outlier)
    x = np.abs(np.random.default_rng(2).normal(size=(4, 4, 8, 8))).astype(np.float32)
    plan = place(view_of(model), PlacementOptions(head_float=False))
    histograms = collect(model, [{"x": x}], plan.tensors)
    ranges = find_ranges(histograms, "minmax", threshold_method("minmax"))
    plain = {site.node for site in plan.activations if site.rule == "residual"}
    assert plain == {"add0", "add1", "add2", "add3"}
    found, left = guarded(plan, ranges, 15.0)
    assert {site.node for site in found.activations if site.rule == "residual"} == kept
    assert set(left) == plain - kept
    assert found.weights == plan.weights
    assert guarded(plan, ranges, 0.0) == (plan, {})


def test_the_bulk_does_not_see_outliers_nor_zeros() -> None:
    """An SQNR over all values would be that of the outliers: 30 dB."""
    rng = np.random.default_rng(0)
    values = np.maximum(rng.normal(size=(64, 4096)), 0).astype(np.float32)
    ordinary = counted(values)
    assert 30 < bulk_sqnr_db(ordinary, ordinary.amax) < 45
    values[0] *= 100
    spoilt = counted(values)
    assert bulk_sqnr_db(spoilt, spoilt.amax) < 10
    assert bulk_sqnr_db(empty(), 1.0) == float("inf")
    assert bulk_sqnr_db(ordinary, 0.0) == float("inf")


def test_ranges_without_a_histogram_are_not_judged() -> None:
    plan = place(view_of(blocks(1.0)), PlacementOptions(head_float=False))
    assert guarded(plan, Ranges({t: TensorRange(1.0) for t in plan.tensors}), 15.0) == (plan, {})


def counted(values: np.ndarray) -> Histogram:
    return histogram_of(values)
