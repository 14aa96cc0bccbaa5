"""What a Plan comes to, as run.json and the report tell it."""

from collections import Counter

from quantbench.graph.ops import WEIGHTED
from quantbench.graph.view import GraphView
from quantbench.qdq.plan import Plan
from quantbench.records.facts import PlacementFacts


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
