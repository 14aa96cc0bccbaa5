"""Placement by search on the demo ResNet-18, whose best plan is known from the A100 engines."""

from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
import pytest

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.cli.requests import placement_options
from quantbench.demo.resnet18 import build
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import view_of
from quantbench.graph.view import GraphView
from quantbench.predict.best import best_placement
from quantbench.predict.cost import cost_of, moved_bytes
from quantbench.predict.simulate import predict, predict_model
from quantbench.predict.with_qdq import with_qdq
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.recipe import Placement
from tests.predict.qdq_networks import Draft
from tests.qdq.golden import parse
from tests.qdq.networks import DENSE_BLOCKS


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return normalise(build(batch=1, size=64, width=16, classes=10))


@pytest.fixture(scope="module")
def view(model: onnx.ModelProto) -> GraphView:
    return view_of(model)


def test_prediction_of_a_plan_is_that_of_the_inserted_model(model: onnx.ModelProto, view: GraphView) -> None:
    plan = place(view)
    quantized, scales = with_qdq(view, plan)
    ranges = Ranges({tensor: TensorRange(1.0 + i / 100) for i, tensor in enumerate(plan.tensors)})
    mine = predict(quantized, scales=scales)
    real = predict_model(insert_qdq(model, plan, ranges))
    assert {(x.name, frozenset(x.nodes)) for x in mine.layers} == {(x.name, frozenset(x.nodes)) for x in real.layers}
    assert mine.float_bytes == real.float_bytes
    assert {(f.name, f.status) for f in mine.fates} == {(f.name, f.status) for f in real.fates}


def test_search_finds_the_residual_rule_where_it_is_switched_off(view: GraphView) -> None:
    poor = PlacementOptions(residual=False, pooling=False)
    quantized, scales = with_qdq(view, place(view, poor))
    before = predict(quantized, scales=scales)
    best = best_placement(view, poor)
    assert moved_bytes(best.prediction) < moved_bytes(before) / 2
    assert len(best.prediction.layers) < len(before.layers)
    assert best.trials[0].cost == cost_of(before)
    assert best.plan == place(view)
    adds = {n.name for n in view.nodes if n.op == "Add"}
    assert len({s.node for s in best.plan.activations if s.node in adds}) == len(adds) == 8
    assert all(layer.outputs[0].dtype == "INT8" for layer in best.prediction.layers
               if "residual" in layer.attributes and "layer4/1" not in layer.name)  # fmt: skip


def test_search_never_does_worse_than_the_rules_and_keeps_what_stays_float(view: GraphView) -> None:
    options = PlacementOptions(keep_float=("*layer2*",))
    best = best_placement(view, options)
    assert best.cost <= best.trials[0].cost
    kept = {n.name for n in view.nodes if "layer2" in n.name and n.op == "Conv"}
    assert kept
    assert not kept & {site.node for site in best.plan.weights}


def test_search_lifts_the_rule_for_tiny_convs_but_no_dfl() -> None:
    view = view_of(normalise(parse(DENSE_BLOCKS)[0]))
    best = best_placement(view)
    assert "tiny_anywhere turned over" in [trial.change for trial in best.trials if trial.taken]
    assert best.cost < best.trials[0].cost
    assert len(best.prediction.leftover) == 1
    decoded = view_of(normalise(parse(DENSE_BLOCKS.replace("-> image", """shares = Softmax(up) axis=1
distance = Conv(shares, 1x16x1x1)
-> image, distance"""))[0]))  # fmt: skip
    assert "distance" not in {site.node for site in best_placement(decoded).plan.weights}


def test_search_is_deterministic(view: GraphView) -> None:
    assert best_placement(view).plan == best_placement(view).plan


MODELS = Path(__file__).parents[1] / "data" / "models"


@pytest.mark.parametrize("name", ["animals_resnet18", "animals_mobilenetv2", "mobilenetv2-digits", "digit-detector"])
def test_rules_leave_over_nothing_but_the_q_of_the_image(name: str) -> None:
    """And the search finds nothing better: residual Adds behind convs and behind SiLU, pooling, classifiers."""
    graph = gs.import_onnx(onnx.load(MODELS / f"{name}.onnx"))
    graph.fold_constants().cleanup()  # the detector's weights are stored as FP16
    view = view_of(normalise(gs.export_onnx(graph)))
    best = best_placement(view)
    taken = [trial.change for trial in best.trials if trial.taken]
    assert taken[0] == "the rules as they are"
    # From 10 on conv, SiLU and Add are one layer, so the branch needs no Q/DQ of its own; in 8.6 they are not.
    assert all("/Add: input" in change for change in taken[1:])
    assert bool(taken[1:]) is (name == "digit-detector")
    if taken[1:]:
        older = best_placement(view, version="8.6.0")
        assert [trial.change for trial in older.trials if trial.taken] == taken[:1]
    left = [fate.name for fate in best.prediction.leftover]
    assert len(left) == 1
    assert left[0].startswith(view.inputs[0])
    assert best.prediction.float_bytes == 0


def test_rules_follow_the_version_where_silu_stands_before_a_residual_add() -> None:
    """From 10 on conv, SiLU and Add are one layer: the branch needs no Q/DQ. 8.6 runs the Add by itself, on two DQs."""
    d = Draft()
    x = d.tensor("x", (1, 32, 16, 16))

    def conv(x: str, name: str) -> str:
        weight = d.tensor(f"{name}.w", (32, 32, 3, 3), constant=True)
        y = d.node("Conv", [x, weight], (1, 32, 16, 16), name, kernel_shape=(3, 3))
        return d.node("Mul", [y, d.node("Sigmoid", [y], (1, 32, 16, 16), f"{name}.s")], (1, 32, 16, 16), f"{name}.m")

    x = conv(x, "a")
    out = conv(d.node("Add", [x, conv(conv(x, "b"), "c")], (1, 32, 16, 16), "add"), "d")
    view = d.view(("x",), (out,))
    layers = {}
    for alone in (True, False):
        plan = place(view, PlacementOptions(silu_residual=alone, head_float=False))
        assert len([site for site in plan.activations if site.node == "add"]) == (1 if alone else 2)
        quantized, scales = with_qdq(view, plan)
        for version in ("8.6.0", "10.9"):
            layers[alone, version] = len(predict(quantized, version=version, scales=scales).layers)
    assert layers[True, "10.9"] < layers[False, "10.9"]
    assert layers[False, "8.6.0"] < layers[True, "8.6.0"]


def test_a_named_version_sets_the_switch() -> None:
    switches = [placement_options(Placement(tensorrt=version)).silu_residual for version in ("", "8.6.1", "10.9")]
    assert switches == [False, False, True]
    assert not placement_options(Placement(tensorrt="10.9", gpu="sm120")).silu_residual
