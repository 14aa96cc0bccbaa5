"""What each fused region costs: in accuracy when it alone is INT8, what it gives back when it alone is float, and what
its INT8 saves. Each is a model of its own, run from the nearest kept tensors in front of it on (see `trunk`).

The network is that which is quantized, its channels scaled where a run scales them; float outputs are its own. (Where a
bound stays, as that of a ReLU6, they differ a little from the model's as it came; that is no region's doing.)"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.find_ranges import Layouts
from quantbench.calibration.ort_outputs import padded, parts_of, static_batch
from quantbench.calibration.ranges import Ranges
from quantbench.decide.gates import agreement_of
from quantbench.decide.regions import Region, grouped, part_of, regions_of
from quantbench.decide.trunk import Batch, Trunk, good_cuts, nearest
from quantbench.decide.workbench import Workbench
from quantbench.evaluate.evaluator import image_size
from quantbench.evaluate.pairs import Answers, Noise, worst
from quantbench.evaluate.task import find_task
from quantbench.folding.options import FoldOptions
from quantbench.graph.ops import CONVS
from quantbench.graph.tail import Cut, tail
from quantbench.qdq.affine import affine_activations
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.layouts import note_layouts
from quantbench.qdq.ops import weight_index
from quantbench.qdq.plan import Plan
from quantbench.records.evaluation import Measured
from quantbench.records.search import RegionCost, Sensitivity, Settings
from quantbench.runnable import runnable_part

# Of a Q/DQ model: (label of a device, ms that INT8 saves at each weighted node).
Savings = Callable[[Any], tuple[str, dict[str, float]]]
Outputs = list[NDArray[Any]]
IMAGES = 24
_TOP = 20


def measure_sensitivity(
    bench: Workbench, settings: Settings, *, scaling: FoldOptions | None = None, images: int = IMAGES,
    savings: Savings | None = None,
) -> Sensitivity:  # fmt: skip
    """Costs of all regions of the variant, its layers all in INT8, on at most `images` of the images to measure on, and
    what each saves by `savings`. `scaling`: of channels, in place of the variant's own. Biases stay as they are."""
    settings = replace(settings, keep_float=(), adaptive=False)
    network, plan = bench.network(settings, scaling), bench.plan(settings)
    layouts = bench.layouts(plan, network, corrected=settings.bias_correction)
    model = runnable_part(network.model) if network.scaled_by else bench.runnable
    ranges = grouped(plan, bench.ranges(settings.calibrator, plan, network))
    whole = insert_qdq(model, plan, ranges)
    regions = regions_of(whole, plan)
    batches, macs = _few(bench, images), multiply_adds(bench)
    total = sum(batch.count for batch in batches)
    starts = _starts(model, plan, regions)
    cuts = good_cuts(model, starts, batches, macs, bench.threads)
    swap = _Swap(plan, ranges, layouts, {cut.position: tail(model, cut) for cut in cuts})
    places = [nearest(cuts, start) for start in starts]

    floats = Trunk(model, cuts, batches, bench.threads)
    compare = _Compare(bench, batches, list(floats.outputs()))

    def cost(trunk: Trunk, index: int, advance: Callable[[int], None], *, alone: bool) -> tuple[float, float | None]:
        changed = swap.model(places[index], regions[index].nodes, inside=alone)
        return compare.against(trunk.with_tail(changed, places[index]), advance)

    everything = range(len(regions))
    with bench.progress.task("Each region alone in INT8", total * len(regions), "runs") as advance:
        alone = [cost(floats, index, advance, alone=True) for index in everything]
    del floats  # its tensors make room for those of the INT8 model
    order = sorted(everything, key=lambda index: -alone[index][0])
    int8 = Trunk(_laid_out(whole, layouts), cuts, batches, bench.threads)
    noise, _ = compare.against(int8.outputs())
    top = order[:_TOP] if noise > 0 else []
    with bench.progress.task("The costliest alone in float", total * len(top), "runs") as advance:
        gains = {index: 1 - cost(int8, index, advance, alone=False)[0] / noise for index in top}
    work = max(sum(macs.values()), 1)
    plain = replace(settings, bias_correction=False)
    saved = _saved(savings, lambda: bench.quantized(plain, scaling), regions)
    costs = tuple(
        _cost(regions[i], *alone[i], gains.get(i), sum(macs.get(n, 0) for n in regions[i].weighted) / work, saved[i])
        for i in order
    )
    return Sensitivity(
        model=bench.run.model_facts.name, calibrator=settings.calibrator, images=total, scaled=network.scaled_by,
        regions=costs,
    )  # fmt: skip


def _saved(
    savings: Savings | None, make: Callable[[], onnx.ModelProto], regions: Sequence[Region]
) -> list[dict[str, float]]:
    """ms by device that INT8 saves in each region; {} without a device, or where the predictor sizes none of it."""
    if savings is None:
        return [{} for _ in regions]
    label, by_node = savings(make())
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


class _Swap:
    """Tails of the float model, by their position, into which a part of the plan is put."""

    def __init__(self, plan: Plan, ranges: Ranges, layouts: Layouts, tails: Mapping[int, onnx.ModelProto]) -> None:
        self._plan, self._ranges, self._layouts, self._tails = plan, ranges, layouts, tails
        self._nodes = {position: {node.name for node in model.graph.node} for position, model in tails.items()}

    def model(self, cut: Cut, nodes: Collection[str], *, inside: bool) -> onnx.ModelProto:
        """What stands behind `cut`, in INT8 at `nodes`, or at all others."""
        here = self._nodes[cut.position]
        part = part_of(self._plan, lambda node: node in here and (node in nodes) == inside)
        return _laid_out(insert_qdq(self._tails[cut.position], part, self._ranges), self._layouts)


def _laid_out(model: onnx.ModelProto, layouts: Layouts) -> onnx.ModelProto:
    """The Q/DQ `model` with the integers that run: those of onnxruntime where it is placed for that."""
    if not layouts:
        return model
    note_layouts(model, layouts)
    return affine_activations(model)


class _Compare:
    """Outputs against those of the float model, which are `plain`."""

    def __init__(self, bench: Workbench, batches: Sequence[Batch], plain: Sequence[Outputs]) -> None:
        self._batches, self._plain, self._names = batches, plain, bench.output_names()
        self._task = find_task(plain[0], bench.facts)

    def against(
        self, outputs: Iterable[Outputs], advance: Callable[[int], None] | None = None
    ) -> tuple[float, float | None]:
        """Noise over signal at the worst output, and the share of same answers."""
        noise, answers = Noise(self._task, self._names), Answers(self._task)
        for batch, plain, other in zip(self._batches, self._plain, outputs, strict=True):
            noise.update(plain, other, batch.count)
            answers.update(plain, other, batch.count, batch.size)
            if advance is not None:
                advance(batch.count)
        found, same = worst(noise.result()), agreement_of(answers.result())
        relative = 10 ** (-found.value / 10) if isinstance(found, Measured) else 0.0
        return relative, same[1].value if same is not None else None


def _few(bench: Workbench, images: int) -> list[Batch]:
    """At most `images` images."""
    found, left, fixed = [], images, static_batch(bench.model)
    for feed, labels in bench.batches():
        if left > 0:
            take = min(left, len(labels))
            part = parts_of({name: np.asarray(array) for name, array in feed.items()}, take)[0]
            found.append(Batch(padded(part, fixed), take, image_size(part)))
            left -= take
    return found


def _starts(model: onnx.ModelProto, plan: Plan, regions: Sequence[Region]) -> list[int]:
    """Of each region, the position of its first node that the plan quantizes."""
    sites = {site.node for site in plan.activations} | {site.node for site in plan.weights}
    places = {node.name: place for place, node in enumerate(model.graph.node)}
    return [min((places[n] for n in region.nodes if n in sites and n in places), default=0) for region in regions]


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
