"""A Plan as text, one line a decision: what replays and golden tests compare."""

from collections.abc import Iterator

from quantbench.qdq.plan import OUTPUT, Plan


def plan_lines(plan: Plan) -> Iterator[str]:
    """Sites in the order of the rules, then weights, then what stays float with the reason."""
    for site in plan.activations:
        shared = f", one scale with {site.group}" if site.group != site.tensor else ""
        what = "Q" if site.alone else "Q/DQ"
        where = f"output {site.index}" if site.node == OUTPUT else f"{site.node} input {site.index}"
        yield f"{what} on {site.tensor} at {where} ({site.rule}{shared})"
    for weight in plan.weights:
        axis = "per tensor" if weight.axis is None else f"per channel on axis {weight.axis}"
        yield f"Q/DQ on weight {weight.tensor} at {weight.node} ({weight.rule}, {axis})"
    for name in plan.folded:
        yield f"folded: {name}"
    for node, why in plan.kept_float.items():
        yield f"float: {node} ({why})"
