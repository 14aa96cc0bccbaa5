"""What a Plan comes to, as run.json and the report tell it."""

from collections import Counter
from collections.abc import Mapping

from quantbench.calibration.histogram import Histogram, shares
from quantbench.calibration.ranges import Ranges
from quantbench.graph.ops import WEIGHTED
from quantbench.graph.view import GraphView
from quantbench.qdq.insert import group_amax
from quantbench.qdq.plan import Plan
from quantbench.records.facts import PlacementFacts, RangeFacts


def placement_facts(view: GraphView, plan: Plan) -> PlacementFacts:
    """Which weighted nodes of `view` the `plan` quantizes, which stay float and why, how many sites each rule made."""
    return PlacementFacts(
        weighted=tuple(node.name for node in view.nodes if node.op in WEIGHTED),
        quantized=tuple(sorted({site.node for site in plan.weights})),
        kept_float=dict(plan.kept_float),
        tensors=len(plan.tensors),
        groups=len({site.group for site in plan.activations}),
        rules=dict(Counter(site.rule for site in plan.activations)),
    )


def range_facts(plan: Plan, ranges: Ranges, histograms: Mapping[str, Histogram]) -> tuple[RangeFacts, ...]:
    """What the scales that `plan` gives to its tensors, shared ones as they are shared, do to the counted values."""
    amax = group_amax(plan, ranges)
    groups = {site.tensor: site.group for site in plan.activations}
    found = []
    for tensor, group in groups.items():
        histogram = histograms.get(tensor)
        if histogram is None or histogram.broken or not histogram.total:
            continue
        made = shares(histogram, amax[group])
        found.append(
            RangeFacts(
                tensor=tensor, amax=amax[group], observed_max=histogram.amax, share_clipped=made.clipped,
                share_zero=made.zero, share_lost=made.lost,
            )
        )  # fmt: skip
    return tuple(found)
