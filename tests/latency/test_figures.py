"""How good the model is on engines that it has not learnt. `pytest -s` prints the figures (docs/latency.md)."""

import csv
import lzma
import random

import numpy as np
import pytest

from quantbench.latency.assemble import learn_device
from quantbench.latency.device import Device
from quantbench.latency.engine_time import time_of_works
from quantbench.latency.from_engine import EngineLayer
from quantbench.latency.gpus import published
from quantbench.latency.judge import Judged, Score, coverage, half_width, judge, median, quantile
from quantbench.latency.learn import learn_products
from quantbench.latency.prior import Prior
from quantbench.latency.sources import Source, read_sources, rows_of_table
from tests.latency.conftest import NO_LICENCE, SHARED, learned

V100 = SHARED / "timings" / "v100_tensorrt_convs.csv.xz"
needs_shared = pytest.mark.skipif(
    not NO_LICENCE.is_dir(), reason="needs ../shared, which is not part of the repository"
)


def _say(name: str, score: Score) -> None:
    p90 = quantile(score.layers, 0.9)
    lines = [f"{name}: {len(score.layers)} layers, median {median(score.layers):.1%}, p90 {p90:.1%}"]
    for what, part in (("products", score.of(weighted=True)), ("others", score.of(weighted=False))):
        covered = f"covered {coverage(part):.0%} at ± {half_width(part):.0%}"
        lines.append(f"{len(part)} {what}: median {median(part):.1%}, {covered}")
    lines.append(f"profile {score.total} against {score.true_ms:.3f} ms ({score.off:+.1%}), rank {score.rank:.2f}")
    print("", *lines, f"without a model {score.opaque_ms:.3f} ms", sep="\n  ")


def _say_compute(device: Device, source: Source) -> float:
    """How far the predicted GPU compute of a whole engine, its formats given, is from what trtexec measured."""
    works = [(x.name, x.kind, x.work) for x in source.layers if x.work is not None and x.ms]
    total = time_of_works(device, works).compute
    assert source.compute_ms is not None
    off = total.ms / source.compute_ms - 1
    print(f"  GPU compute of {source.names[0]}: {total} against {source.compute_ms:.3f} ms ({off:+.1%})")
    return off


def _times_spread(score: Score) -> bool:
    """Whether the upper quarter of the layers takes half as long again as the lower, so that their order means
    something."""
    low, high = np.quantile([j.true for j in score.layers], (0.25, 0.75))
    return bool(high > 1.5 * low)


def _pooled(scores: list[Score], *, weighted: bool) -> list[Judged]:
    return [j for score in scores for j in score.of(weighted=weighted)]


def test_a100_engines_from_one_log(a100: Device, a100_engines: dict[str, tuple[EngineLayer, ...]]) -> None:
    scores = {name: judge(a100, layers) for name, layers in a100_engines.items()}
    for name, score in scores.items():
        _say(f"A100 {name}", score)
    low = [scores[n] for n in ("fp16", "int8", "int8 residual")]
    layers = [j for s in scores.values() for j in s.layers]
    assert median(_pooled(low, weighted=True)) < 0.08
    assert median(scores["fp32"].of(weighted=True)) < 0.12
    assert median(layers) < 0.10
    assert quantile(layers, 0.9) < 0.35
    assert all(score.rank > 0.92 for score in scores.values())
    assert all(abs(score.off) < 0.15 for score in scores.values())
    products, others = (_pooled(list(scores.values()), weighted=w) for w in (True, False))
    assert coverage(products) >= 0.87
    assert coverage(others) >= 0.80
    assert half_width(products) < 0.35


def test_totals_of_a100_engines_lie_in_their_intervals_and_in_order(
    a100: Device, a100_engines: dict[str, tuple[EngineLayer, ...]]
) -> None:
    scores = {name: judge(a100, layers) for name, layers in a100_engines.items()}
    order = sorted(scores, key=lambda n: scores[n].total.ms)
    assert order[0] == "int8 residual"
    assert order[-1] == "fp32"
    for score in scores.values():
        assert score.total.low <= score.true_ms <= score.total.high


def test_int8_against_fp16_of_the_same_shape_has_the_right_sign(
    a100: Device, a100_engines: dict[str, tuple[EngineLayer, ...]]
) -> None:
    judged = {n: judge(a100, a100_engines[n]).of(weighted=True) for n in ("fp32", "fp16", "int8 residual")}
    right = wrong = 0
    for first, second in (("fp16", "int8 residual"), ("fp32", "int8 residual"), ("fp32", "fp16")):
        others = {j.work.shape[:5]: j for j in judged[second]}
        for one in judged[first]:
            other = others.get(one.work.shape[:5])
            if other is None or abs(np.log(one.true / other.true)) < np.log(1.15):
                continue
            same = (one.true > other.true) == (one.predicted > other.predicted)
            right, wrong = right + same, wrong + (not same)
    print(f"\nwhich precision is faster, A100: {right} of {right + wrong} right")
    assert right / (right + wrong) >= 0.93


def test_orin_layers_left_out_by_shape(orin_log: Source, prior: Prior) -> None:
    source = orin_log
    shapes = sorted({r.work.shape for r in source.rows}, key=str)
    random.Random(0).shuffle(shapes)
    scores = []
    for fold in range(3):
        left = set(shapes[fold::3])
        rest = Source(source.names, [r for r in source.rows if r.work.shape not in left], specs=source.specs)
        device = learned("orin", [rest], prior.without("Orin, 4 SMs"))
        scores.append(judge(device, [x for x in source.layers if x.work is not None and x.work.shape in left]))
        _say(f"Orin, fold {fold}", scores[-1])
        assert median(scores[-1].layers) < 0.10
        assert abs(scores[-1].off) < 0.15
        assert scores[-1].rank > 0.92
    products, others = (_pooled(scores, weighted=w) for w in (True, False))
    assert median(products) < 0.12
    assert coverage(products) >= 0.87
    assert coverage(others) >= 0.80


@needs_shared
def test_rtx_3080_ti_one_half_of_the_logs_from_the_other(prior: Prior) -> None:
    read = {}
    for key, kind in (("camera.backbone", "int8fp16"), ("head.bbox", "int8fp16"), ("fuser", "int8fp16"),
                      ("camera.vtransform", "fp16")):  # fmt: skip
        stem = f"bevfusion_{key}_RTX3080Ti_trt8.6.0_{kind}"
        (read[key],) = read_sources([NO_LICENCE / f"{stem}_{part}.xz" for part in ("build.log", "layers.json")])
    first, second = ("camera.backbone", "head.bbox"), ("fuser", "camera.vtransform")
    scores = {}
    for learnt, predicted in ((first, second), (second, first[:1])):
        device = learned("3080", [read[k] for k in learnt], prior)
        for key in predicted:
            scores[key] = judge(device, read[key].layers)
            _say(f"RTX 3080 Ti {key} from {' and '.join(learnt)}", scores[key])
            _say_compute(device, read[key])
    products, others = (_pooled(list(scores.values()), weighted=w) for w in (True, False))
    assert median(products) < 0.12
    assert coverage(products) >= 0.87
    assert coverage(others) >= 0.80
    assert all(abs(score.off) < 0.15 for score in scores.values())
    # Three FP16 convolutions of a 3 x 3 window, of which the other logs have none: other GPUs tell of them.
    assert median(scores["camera.vtransform"].of(weighted=True)) < 0.12
    # Order, where there is one: half of the fuser's layers take 44 to 57 µs.
    assert not _times_spread(scores["fuser"])
    assert all(score.rank > 0.85 for score in scores.values() if _times_spread(score))
    assert all(half_width(score.of(weighted=True)) < 0.8 for score in scores.values())


@needs_shared
def test_rtx_3090_one_engine_from_the_other(prior: Prior) -> None:
    read = {k: read_sources([SHARED / "artefacts" / "json" / f"trex_tf_{k}_resnet.onnx.engine.graph.json"])[0]
            for k in ("fp32", "fp16")}  # fmt: skip
    # The other precision was never timed: by the ratio of published rates.
    for learnt, predicted, bar in (("fp32", "fp16", 0.08), ("fp16", "fp32", 0.12)):
        device = learn_device("3090", [read[learnt]], prior)
        score = judge(device, read[predicted].layers)
        _say(f"RTX 3090 {predicted} from {learnt}", score)
        assert median(score.of(weighted=True)) < bar
        assert abs(score.off) < 0.15
        assert score.rank > 0.9
        assert coverage(score.of(weighted=True)) >= 0.87
        assert half_width(score.of(weighted=True)) < 0.35
        assert abs(_say_compute(device, read[predicted])) < 0.2


def test_gpu_compute_of_engines_where_another_ones_profile_gave_the_offset(
    a100_log: Source, a100_sources: dict[str, Source], prior: Prior
) -> None:
    kernels = Source(a100_log.names, a100_log.rows, specs=a100_log.specs)
    device = learned("a100", [kernels, a100_sources["fp32"]], prior)
    for name in ("int8", "int8 residual"):
        assert abs(_say_compute(device, a100_sources[name])) < 0.2


@pytest.mark.skipif(not V100.is_file(), reason="needs ../shared, which is not part of the repository")
def test_v100_pairs_of_channels_left_out(prior: Prior) -> None:
    with lzma.open(V100, "rt") as file:
        # A hundredth of the file from all over it: it is sorted, and parsing all takes seconds.
        lines = file.readlines()
    head, body = lines[0], lines[1:]
    random.Random(0).shuffle(body)
    raw = list(csv.DictReader([head, *body[:7000]]))
    pairs = sorted({(r["cin"], r["cout"]) for r in raw})
    left = set(random.Random(1).sample(pairs, len(pairs) // 4))
    specs = published("Tesla V100")
    assert specs is not None
    learnt = list(rows_of_table([r for r in raw if (r["cin"], r["cout"]) not in left][:4000]))
    device = Device("v100", specs, learn_products(learnt, specs, prior.without(specs.gpu)), ())
    for precision, bar in (("fp32", 0.18), ("fp16", 0.12), ("int8", 0.10)):
        unseen = [r for r in raw if (r["cin"], r["cout"]) in left and r["batch"] == "1" and r["precision"] == precision]
        errors = [abs(np.log(device.estimate(r.work).us / r.ms / 1e3)) for r in rows_of_table(unseen)]
        print(f"\nV100 {precision}, {len(errors)} convs of unseen channels, batch 1: median {np.median(errors):.1%}")
        assert np.median(errors) < bar
