"""`quantbench sensitivity` and `tune` on a small real network, and on one with a poisoned layer."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from quantbench.decide.goal import Goal, milliseconds
from quantbench.decide.regions import grouped, part_of, regions_of
from quantbench.decide.trunk import Batch, Trunk, good_cuts, nearest
from quantbench.demo import resnet18
from quantbench.errors import QuantbenchError
from quantbench.graph.onnx_view import view_of
from quantbench.graph.tail import tail
from quantbench.ort import create_session
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from quantbench.records.search import Sensitivity
from tests.evaluate.ranges import ranges_of

POISONED = "/layer2/0/conv1/Conv"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(16):
        coarse = rng.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    path.write_text(
        "data:\n  preprocess: {exact: 32, scale: 0.0171, mean: 2.1}\nevaluation: {latency: false}\n"
        "compile: {backend: none}\n"
    )
    return path


def poison(model: onnx.ModelProto) -> None:
    """One channel of one weight a thousand times the others', whose result the next layer takes back: float is as
    before, per-tensor INT8 of what lies between is lost. Over a HardSwish: over a Relu equalization would mend it."""
    weights = {t.name: t for t in model.graph.initializer}
    nodes = {n.name: n for n in model.graph.node}
    first, second = nodes[POISONED], nodes[POISONED.replace("conv1", "conv2")]
    next(node for node in model.graph.node if node.input[0] == first.output[0]).op_type = "HardSwish"
    for name, axis, factor in ((first.input[1], 0, 1000.0), (first.input[2], 0, 1000.0), (second.input[1], 1, 0.001)):
        values = numpy_helper.to_array(weights[name]).copy()
        index: list[slice | int] = [slice(None)] * values.ndim
        index[axis] = 0
        values[tuple(index)] *= factor
        weights[name].CopyFrom(numpy_helper.from_array(values, name))


def test_a_region_run_from_kept_tensors_gives_the_numbers_of_a_whole_model() -> None:
    model = resnet18.build(width=8, size=32, classes=10)
    plan = place(view_of(model))
    images = np.random.default_rng(1).normal(size=(2, 3, 32, 32)).astype(np.float32)
    ranges = ranges_of(model, plan, images)
    whole = insert_qdq(model, plan, ranges)
    regions = regions_of(whole, plan)
    assert {node for region in regions for node in region.weighted} == {site.node for site in plan.weights}
    places = {node.name: place for place, node in enumerate(model.graph.node)}
    starts = [min(places[node] for node in region.nodes if node in places) for region in regions]
    batches = [Batch({"image": images}, 2, (32, 32))]
    cuts = good_cuts(model, starts, batches, {}, 1)
    assert len(cuts) > 4
    plain = next(Trunk(model, cuts, batches, 1).outputs())[0]
    # Against the noise of the region itself: a value next to the border of two steps may fall to either side, by the
    # processor, and what reads it is then off by a part of a step.
    shares = []
    for alone in (True, False):
        trunk = Trunk(model if alone else whole, cuts, batches, 1)
        for region, start in zip(regions, starts, strict=True):
            part = part_of(plan, lambda node, own=region.nodes, alone=alone: (node in own) == alone)
            cut = nearest(cuts, start)
            behind = tail(model, cut)
            here = {node.name for node in behind.graph.node}
            changed = insert_qdq(behind, part_of(part, here.__contains__), grouped(plan, ranges))
            ours = next(trunk.with_tail(changed, cut))[0]
            session = create_session(insert_qdq(model, part, grouped(plan, ranges)), threads=1, fuse_qdq=False)
            theirs = session.run(None, {"image": images})[0]
            shares.append(float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs - plain)))
    assert sum(share > 0.005 for share in shares) <= len(shares) // 5
    assert max(shares) < 0.2


def test_the_poisoned_layer_is_found_and_left_alone_in_float(cli, tmp_path: Path, pictures: Path, recipe: Path) -> None:
    model = resnet18.build(width=8, size=32, classes=10)
    poison(model)
    onnx.save(model, tmp_path / "m.onnx")
    base = (tmp_path / "m.onnx", "--data", pictures, "--recipe", recipe)
    costs = tmp_path / "s.json"
    code, printed, error = cli("sensitivity", *base, "--images", 8, "--device", "orin", "--out", costs)
    assert code == 0, error
    found = Sensitivity.load(costs)
    # What lies between the two layers is quantized at the input of the second.
    poisoned = POISONED.replace("conv1", "conv2")
    assert found.regions[0].name == poisoned
    assert found.regions[0].float_gain is not None
    assert found.regions[0].float_gain > 0.5
    assert poisoned in printed
    assert sum(cost.macs for cost in found.regions) == pytest.approx(1.0, abs=1e-6)
    assert all(set(cost.saved_ms) == {"orin"} for cost in found.regions if cost.weighted)
    assert 0 < sum(cost.saved_ms.get("orin", 0.0) for cost in found.regions) < 1
    assert "µs saved on orin" in printed

    out = tmp_path / "tuned"
    goal = ("--min-sqnr", 14, "--device", "orin", "--max-latency", "10ms", "--min-speedup", 0.5)
    code, printed, error = cli("tune", *base, *goal, "--out", out, "--dry-run")
    assert code == 0, error
    assert "at most" in printed
    for words in ("skip connections in float", "weights rounded adaptively", "best placement by the predictor"):
        assert words in printed
    assert not out.exists()
    code, printed, error = cli("tune", *base, *goal, "--out", out)
    assert code == 0, error
    trials = json.loads((out / "tune.json").read_text())["trials"]
    assert all(0 < trial["ms"] < 10 and trial["float_ms"] > 0.5 * trial["ms"] for trial in trials)
    assert f"float: {poisoned}" in printed
    assert "layers kept in float: 1" in printed
    assert re.search(r"^(green|amber|red): .+ x the speed of FP.. on orin \(", printed, re.MULTILINE)
    run = json.loads((out / "run.json").read_text())
    assert run["evaluation"]["outputs"]["sqnr_db"]["value"] >= 14
    assert poisoned not in run["placement"]["quantized"]
    assert "--keep-float" in trials[-1]["command"]
    # Again: nothing is measured twice.
    code, again, error = cli("tune", *base, *goal, "--out", out)
    assert code == 0, error
    assert again == printed
    assert "Calibration: 16 images" not in error
    assert "Each region" not in error

    # A user switches the region off: the goal cannot be met, and CI is told so.
    data = json.loads(costs.read_text())
    for region in data["regions"]:
        region["consider"] = region["name"] != poisoned
    data["regions"] = [r for r in data["regions"] if r["name"] in (poisoned, "/conv1/Conv")]
    costs.write_text(json.dumps(data))
    late = ("--device", "orin", "--min-speedup", 100)
    code, printed, error = cli("tune", *base, "--min-sqnr", 25, *late, "--out", tmp_path / "no", "--sensitivity", costs)
    assert code == 3
    assert "gate: SQNR is" in error
    assert "x float's speed on the device, under 100 x" in error


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "tune needs a goal"),
        (("--max-latency", "2ms"), "need a device whose layer times are known"),
        (("--max-latency", "soon"), "--max-latency 'soon' is no time"),
        (("--min-sqnr", 20, "--effort", "some"), "neither fast nor full"),
    ],
)
def test_faults(cli, pictures: Path, recipe: Path, flags: tuple[object, ...], words: str) -> None:
    code, _, error = cli("tune", "missing.onnx", "--data", pictures, "--recipe", recipe, *flags)
    assert code == 2
    assert words in error


def test_a_budget_of_time() -> None:
    assert milliseconds("800us") == pytest.approx(0.8)
    assert milliseconds("2") == milliseconds("2.0ms") == 2.0
    goal = Goal(min_speedup=1.2)
    assert goal.late(1.0, 1.3) == goal.late(None, None) == []
    assert goal.late(1.0, 1.1) == ["1.10 x float's speed on the device, under 1.2 x"]
    assert Goal(max_ms=0.9).late(1.0, 1.3) == ["1 ms on the device, over the budget of 0.9 ms"]
    with pytest.raises(QuantbenchError, match="must be over 0"):
        milliseconds("-1ms")
