"""What each fused region costs: in accuracy when it alone is INT8, what it gives back when it alone is float, and what
its INT8 saves. One session measures them all (see `switches`); float outputs are computed once a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import padded, static_batch, unpadded
from quantbench.decide.gates import agreement_of
from quantbench.decide.switches import Region, Switchable, switchable
from quantbench.decide.workbench import Workbench
from quantbench.evaluate.evaluator import image_size
from quantbench.evaluate.pairs import Answers, Noise, worst
from quantbench.evaluate.task import find_task
from quantbench.graph.ops import CONVS
from quantbench.ort import create_session
from quantbench.ort import run as ort_run
from quantbench.qdq.ops import weight_index
from quantbench.records.evaluation import Measured
from quantbench.records.search import RegionCost, Sensitivity, Settings

# Of a Q/DQ model: (label of a device, ms that INT8 saves at each weighted node).
Savings = Callable[[Any], tuple[str, dict[str, float]]]
IMAGES = 24
_TOP = 20


def measure_sensitivity(
    bench: Workbench, calibrator: str, *, images: int = IMAGES, savings: Savings | None = None
) -> Sensitivity:
    """Costs of all regions on at most `images` of the images to measure on, and what each saves by `savings`."""
    built = switchable(bench.runnable, bench.plan(Settings(calibrator)), bench.ranges(calibrator))
    count = len(built.regions)
    few = _few(bench, images)
    total = sum(len(batch) for batch in few)
    alone = np.eye(count, dtype=np.bool_)
    with bench.progress.task("Each region alone in INT8", total * count, "runs") as advance:
        noise, agreement = _noises(bench, built, few, alone, advance)
    order = sorted(range(count), key=lambda index: -noise[index])
    top = order[:_TOP]
    without = np.concatenate([np.ones((1, count), np.bool_), ~alone[top]])
    with bench.progress.task("The costliest alone in float", total * len(without), "runs") as advance:
        rest, _ = _noises(bench, built, few, without, advance)
    gains = {region: 1 - rest[place + 1] / rest[0] for place, region in enumerate(top)} if rest[0] > 0 else {}
    macs = multiply_adds(bench)
    whole = max(sum(macs.values()), 1)
    saved = _saved(bench, calibrator, savings, built.regions)
    costs = tuple(
        _cost(built.regions[i], noise[i], agreement[i], gains.get(i), sum(macs.get(n, 0) for n in
              built.regions[i].weighted) / whole, saved[i])
        for i in order
    )  # fmt: skip
    return Sensitivity(model=bench.run.model_facts.name, calibrator=calibrator, images=total, regions=costs)


def _saved(
    bench: Workbench, calibrator: str, savings: Savings | None, regions: Sequence[Region]
) -> list[dict[str, float]]:
    """ms by device that INT8 saves in each region; {} without a device, or where the predictor sizes none of it."""
    if savings is None:
        return [{} for _ in regions]
    label, by_node = savings(bench.quantized(Settings(calibrator, bias_correction=False)))
    return [
        {label: round(sum(by_node[n] for n in known), 6)} if (known := [n for n in r.weighted if n in by_node]) else {}
        for r in regions
    ]


def _cost(
    region: Region, noise: float, agreement: float | None, gain: float | None, macs: float, saved: dict[str, float]
) -> RegionCost:
    sqnr = -10 * float(np.log10(noise)) if noise > 0 else None
    return RegionCost(
        name=region.name, weighted=region.weighted, nodes=region.nodes, noise=noise, sqnr_db=sqnr,
        agreement=agreement, macs=macs, float_gain=gain, saved_ms=saved,
    )  # fmt: skip


def _few(bench: Workbench, images: int) -> list[dict[str, NDArray[Any]]]:
    """Feeds of at most `images` images."""
    found, left = [], images
    for feed, labels in bench.batches():
        if left > 0:
            take = min(left, len(labels))
            found.append({name: np.asarray(array)[:take] for name, array in feed.items()})
            left -= take
    return found


def _noises(
    bench: Workbench,
    built: Switchable,
    feeds: list[dict[str, NDArray[Any]]],
    patterns: NDArray[np.bool_],
    advance: Callable[[int], None],
) -> tuple[list[float], list[float | None]]:
    """Noise over signal at the worst output, and share of same answers, for each row of `patterns` [rows, regions]."""
    session = create_session(built.model, threads=bench.threads)
    fixed, names = static_batch(bench.model), bench.output_names()

    def run(feed: dict[str, NDArray[Any]], pattern: NDArray[np.bool_]) -> list[NDArray[Any]]:
        count = len(next(iter(feed.values())))
        flags = {name: np.array(bool(value)) for name, value in zip(built.switches, pattern, strict=True)}
        return [unpadded(np.asarray(a), fixed, count) for a in ort_run(session, None, {**padded(feed, fixed), **flags})]

    noises: list[Noise] = []
    answers: list[Answers] = []
    for feed in feeds:
        count, size = len(next(iter(feed.values()))), image_size(feed)
        reference = run(feed, np.zeros(len(built.regions), np.bool_))
        if not noises:
            task = find_task(reference, bench.facts)
            noises, answers = [Noise(task, names) for _ in patterns], [Answers(task) for _ in patterns]
        for pattern, noise, answer in zip(patterns, noises, answers, strict=True):
            outputs = run(feed, pattern)
            noise.update(reference, outputs, count)
            answer.update(reference, outputs, count, size)
            advance(count)
    return [_relative(noise) for noise in noises], [_same(answer) for answer in answers]


def _relative(noise: Noise) -> float:
    found = worst(noise.result())
    return 10 ** (-found.value / 10) if isinstance(found, Measured) else 0.0


def _same(answer: Answers) -> float | None:
    known = agreement_of(answer.result())
    return known[1].value if known is not None else None


def multiply_adds(bench: Workbench) -> dict[str, int]:
    """Multiply-adds of one image for each weighted node: elements of the weight times positions of the output."""
    view = bench.run.model.view
    found = {}
    for node in view.nodes:
        index = weight_index(view, node)
        if index is None:
            continue
        weight, output = view.tensors.get(node.inputs[index]), view.tensors.get(node.outputs[0])
        if weight is None or weight.shape is None or output is None or output.shape is None:
            continue
        elements = int(np.prod([d for d in weight.shape if isinstance(d, int)]))
        spatial = output.shape[2:] if node.op in CONVS else output.shape[1:-1]
        found[node.name] = elements * int(np.prod([d for d in spatial if isinstance(d, int)] or [1]))
    return found
