"""Statistics and comparisons against figures worked out by hand or by simulation."""

import numpy as np
import onnx
import pytest

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.demo import resnet18
from quantbench.evaluate import latency, statistics
from quantbench.evaluate.evaluator import Evaluator, Subject, Wanted
from quantbench.evaluate.latency import interleaved
from quantbench.evaluate.layers import layer_errors
from quantbench.evaluate.outputs import measures_of
from quantbench.evaluate.pairs import worst
from quantbench.evaluate.statistics import mcnemar, paired_difference, share, sqnr_db
from quantbench.evaluate.task import OutputFacts
from quantbench.graph.onnx_view import view_of
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from quantbench.records.evaluation import Measured, NotMeasurable, Outputs


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


def test_resamples_are_drawn_image_by_image_whatever_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    each = np.stack([np.bincount(rng.integers(0, 7, 7), minlength=7) for _ in range(20)])
    for at_once in (1, 50, 1_000_000):
        monkeypatch.setattr(statistics, "_DRAWN_AT_ONCE", at_once)
        np.testing.assert_array_equal(statistics.resampled(7, 20), each)


def test_sqnr() -> None:
    rng = np.random.default_rng(0)
    signal = rng.uniform(90, 110, 200)
    measured = sqnr_db(signal, signal / 100)
    assert isinstance(measured, Measured)
    assert measured.value == pytest.approx(20.0)
    assert measured.low <= measured.value <= measured.high
    # Images without a signal do not make an interval of thousands of dB.
    sparse = sqnr_db(np.r_[np.zeros(9), 100.0], np.r_[np.full(9, 1e-6), 50.0])
    assert isinstance(sparse, Measured)
    assert -10 < sparse.low <= sparse.high < 100
    assert sqnr_db(signal, np.zeros(200)) == NotMeasurable("both are equal to the last bit")
    assert isinstance(sqnr_db(np.zeros(3), np.ones(3)), NotMeasurable)


def test_agreement_of_all_has_an_interval() -> None:
    """Five images on which both agree do not show that all others do."""
    same = np.ones(5, np.bool_)
    assert share(5, 5).low < 0.6
    change = paired_difference(same, same)
    assert change.value == 0.0
    assert change.low < -0.2 < 0.2 < change.high


@pytest.mark.parametrize(("lost", "gained", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (8, 2, 0.109375)])
def test_mcnemar_exact(lost: int, gained: int, p: float) -> None:
    """Two-sided binomial tails, worked out by hand: 2 / 2^5, 2 / 2^6, 2 (1 + 10 + 45) / 2^10."""
    first, second = np.ones(20, np.bool_), np.ones(20, np.bool_)
    second[:lost], first[lost : lost + gained] = False, False
    assert mcnemar(first, second) == pytest.approx(p)


def evaluator(facts: OutputFacts | None = None, wanted: Wanted | None = None) -> Evaluator:
    """Of two models, whose outputs the test hands in."""
    subjects = [Subject(name, lambda feed: [], facts or OutputFacts()) for name in ("float", "int8")]
    return Evaluator(subjects, wanted)


def test_outputs_by_hand() -> None:
    comparison = evaluator()
    a = np.array([[9.0, 1, 0, 0, 0, 0, 0], [0, 9, 8, 0, 0, 0, 0], [0, 0, 9, 8, 0, 0, 0]], np.float32)
    b = a.copy()
    b[1] = [0, 8, 9, 0, 0, 0, 0]
    a, b = (np.pad(x, ((0, 0), (0, 3)), constant_values=-9) for x in (a, b))
    comparison.update([[a], [b]], [0, 1, 6], (1, 1))
    found = measures_of(comparison.result())
    assert Outputs(**found).top5_change == found["top5_change"]
    assert found["agreement"].value == pytest.approx(2 / 3)
    assert found["top1_float"].value == pytest.approx(2 / 3)
    assert found["top1_int8"].value == pytest.approx(1 / 3)
    assert found["top1_change"].value == pytest.approx(-1 / 3)
    assert found["top5_float"].value == pytest.approx(2 / 3)
    assert found["sqnr_db"].value == pytest.approx(10 * np.log10((a**2).sum() / 2))


@pytest.mark.parametrize(
    ("shape", "facts", "kind"),
    [
        ((2, 1, 8, 8), OutputFacts(), "values"),
        ((2, 4), OutputFacts(), "values"),  # a box, a pose, a regression: nothing says classes
        ((2, 4), OutputFacts(makers=("Softmax",)), "classes"),
        ((2, 4), OutputFacts(names=("a", "b", "c", "d")), "classes"),
        ((2, 10), OutputFacts(), "classes"),
    ],
)
def test_classifiers_are_told_from_other_outputs(shape: tuple[int, ...], facts: OutputFacts, kind: str) -> None:
    comparison = evaluator(facts)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    comparison.update([[values], [values + 0.01]], [None, None], (1, 1))
    found = comparison.result()
    assert found.task.kind == kind
    assert set(measures_of(found)) == ({"sqnr_db", "agreement"} if kind == "classes" else {"sqnr_db"})


def test_an_embedding_has_no_answer() -> None:
    comparison = evaluator()
    values = np.random.default_rng(0).normal(size=(3, 128))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    comparison.update([[values.astype(np.float32)]] * 2, [None] * 3, (1, 1))
    assert comparison.result().task.kind == "values"


def test_what_cannot_be_compared_is_said() -> None:
    comparison = evaluator()
    floats, counts, merged = np.ones((2, 3), np.float32), np.array([[1], [2]]), np.ones((8, 3), np.float32)
    others = counts + np.eye(2, 1, -1, np.int64)
    comparison.update([[floats, counts, merged], [floats, others, merged]], [None, None], (1, 1))
    result = comparison.result()
    reasons = {error.output: error.sqnr.reason for error in result.models[1].errors}
    assert "equal to the last bit" in reasons["output 0"]
    assert "integers" in reasons["output 1"]
    assert "no batch" in reasons["output 2"]
    found = measures_of(result)
    assert set(found) == {"equal"}
    assert found["equal"].value == 0.5
    headline = worst(result.models[1].errors)
    assert isinstance(headline, NotMeasurable)


def test_the_worst_output_is_the_headline() -> None:
    comparison = evaluator()
    big, small = np.full((4, 9), 100.0, np.float32), np.full((4, 9), 0.1, np.float32)
    comparison.update([[big, small], [big + 0.1, small + 0.05]], [None] * 4, (1, 1))
    result = comparison.result()
    assert {e.output: round(e.sqnr.value) for e in result.models[1].errors} == {"output 0": 60, "output 1": 6}
    assert measures_of(result)["sqnr_db"].value == pytest.approx(6.02, abs=0.01)


def test_a_metric_of_the_users_own() -> None:
    wanted = Wanted(metric=lambda outputs, labels: outputs["output 0"].mean(axis=1), metric_name="mean")
    comparison = evaluator(wanted=wanted)
    a = np.arange(40, dtype=np.float32).reshape(20, 2)
    comparison.update([[a], [a + 1]], [None] * 20, (1, 1))
    pair = comparison.result().pair("float", "int8", "mean")
    assert pair is not None
    assert pair.measured.value == pytest.approx(1.0)
    assert pair.real


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
    errors = layer_errors(model, quantized, nodes, [{"image": images}], threads=1)
    for one, other in zip(errors, layer_errors(model, quantized, nodes, [{"image": images}], threads=2), strict=True):
        assert other.node == one.node
        assert other.sqnr_db == pytest.approx(one.sqnr_db, abs=1e-5)  # images side by side
    assert errors[0].node == victim.node
    assert errors[0].sqnr_db is not None
    assert errors[1].sqnr_db is not None
    assert errors[0].sqnr_db < 5 < errors[1].sqnr_db
    assert all(error.behind == "Relu" for error in errors if error.node.endswith("conv1"))
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
    assert found["a"].low_ms <= found["a"].median_ms <= found["a"].high_ms


@pytest.mark.parametrize(("spread", "rounds"), [(0.01, 50), (0.5, 80)])
def test_latency_is_timed_until_medians_are_known(monkeypatch: pytest.MonkeyPatch, spread: float, rounds: int) -> None:
    clock, rng = [0.0], np.random.default_rng(0)

    def call() -> None:
        clock[0] += 1.0 + spread * rng.uniform(-1, 1)

    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])
    found = interleaved({"a": call, "b": call}, batch=1, threads=1, seconds=1000, most=80)
    assert found["a"].runs == found["b"].runs == rounds


def test_the_interval_of_a_median_holds_the_true_one_as_often_as_it_says() -> None:
    """Of 1,000 samples of 60 skewed times each, whose true median is 1: 95 % of intervals hold it, give or take 3."""
    times = np.random.default_rng(0).lognormal(0.0, 0.3, (1000, 60))
    intervals = np.array([latency.median_interval(list(each)) for each in times])
    assert 0.93 < np.mean((intervals[:, 0] <= 1) & (intervals[:, 1] >= 1)) < 0.98
    assert latency.median_interval([3.0, 1.0]) == (1.0, 3.0)


def test_a_layer_that_gives_no_numbers_has_no_error() -> None:
    model = resnet18.build(width=8, size=32, classes=10)
    images = np.full((1, 3, 32, 32), np.nan, np.float32)
    plan = place(view_of(model))
    quantized = insert_qdq(model, plan, Ranges({name: TensorRange(1.0) for name in plan.tensors}))
    assert layer_errors(model, quantized, [site.node for site in plan.weights], [{"image": images}]) == []
