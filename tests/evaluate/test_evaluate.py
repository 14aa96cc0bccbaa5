"""Statistics and comparisons against figures worked out by hand or by simulation."""

import numpy as np
import onnx
import pytest

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.demo import resnet18
from quantbench.evaluate.latency import interleaved
from quantbench.evaluate.layers import layer_errors
from quantbench.evaluate.outputs import OutputComparison
from quantbench.evaluate.statistics import paired_difference, share, sqnr_db
from quantbench.graph.onnx_view import view_of
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place


def test_wilson_interval() -> None:
    """95 of 100: Wilson's interval is 88.8 % to 97.8 % (worked out by hand)."""
    measured = share(95, 100)
    assert (measured.low, measured.high) == (pytest.approx(0.8882, abs=1e-4), pytest.approx(0.9785, abs=1e-4))
    assert share(100, 100).high == 1.0
    assert share(100, 100).low < 1.0
    with pytest.raises(ValueError, match="no images"):
        share(0, 0)


def test_paired_difference_covers_the_truth() -> None:
    """Over many simulated pairs of models the 95 % interval covers the true difference about 95 % of the time."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        first = rng.random(500) < 0.9
        second = np.where(rng.random(500) < 0.05, ~first, first)
        true = (0.1 - 0.9) * 0.05
        measured = paired_difference(first, second)
        covered += measured.low <= true <= measured.high
    assert 0.91 <= covered / 400 <= 0.98


def test_sqnr() -> None:
    rng = np.random.default_rng(0)
    signal = rng.uniform(90, 110, 200)
    measured = sqnr_db(signal, signal / 100)
    assert measured.value == pytest.approx(20.0)
    assert measured.low <= measured.value <= measured.high
    assert sqnr_db(signal, np.zeros(200)).value == 300.0


def test_outputs_by_hand() -> None:
    comparison = OutputComparison()
    a = np.array([[9.0, 1, 0, 0, 0, 0, 0], [0, 9, 8, 0, 0, 0, 0], [0, 0, 9, 8, 0, 0, 0]], np.float32)
    b = a.copy()
    b[1] = [0, 8, 9, 0, 0, 0, 0]
    comparison.update([a], [b], [0, 1, 6])
    found = comparison.result()
    assert found["agreement"].value == pytest.approx(2 / 3)
    assert found["top1_float"].value == pytest.approx(2 / 3)
    assert found["top1_int8"].value == pytest.approx(1 / 3)
    assert found["top1_change"].value == pytest.approx(-1 / 3)
    assert found["top5_float"].value == pytest.approx(2 / 3)
    assert found["sqnr_db"].value == pytest.approx(10 * np.log10((a**2).sum() / 2))


def test_maps_have_no_argmax() -> None:
    comparison = OutputComparison()
    maps = np.ones((2, 1, 8, 8), np.float32)
    comparison.update([maps], [maps], [None, None])
    assert set(comparison.result()) == {"sqnr_db"}


def test_layer_errors_find_the_layer_that_was_broken() -> None:
    model = resnet18.build(width=8, size=32, classes=10)
    images = np.random.default_rng(1).normal(size=(4, 3, 32, 32)).astype(np.float32)
    plan = place(view_of(model))
    maxima = maxima_of(collect(model, [{"image": images}], plan.tensors))
    nodes = [site.node for site in plan.weights]
    victim = next(site for site in plan.activations if site.node == nodes[-1])
    ranges = {name: TensorRange(amax) for name, amax in maxima.items()}
    ranges[victim.tensor] = TensorRange(maxima[victim.tensor] / 50)
    quantized = insert_qdq(model, plan, Ranges(ranges))
    errors = layer_errors(model, quantized, nodes, [{"image": images}])
    assert errors[0].node == victim.node
    assert errors[0].sqnr_db < 5 < errors[1].sqnr_db
    assert errors[-1].cosine == pytest.approx(1.0, abs=1e-3)
    assert {error.node for error in errors} == set(nodes)
    assert isinstance(model, onnx.ModelProto)


def test_latency_takes_turns() -> None:
    order: list[str] = []
    found = interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, batch=1, threads=1, seconds=0, least=5
    )
    assert order[6:] == ["a", "b"] * 5
    assert found["a"].runs == found["b"].runs == 5
    assert found["a"].median_ms <= found["a"].p90_ms <= found["a"].p99_ms
