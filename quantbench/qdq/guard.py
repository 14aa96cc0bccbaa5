"""After calibration: leave the skip connections in float whose range drowns most of their values.

Q/DQ on a skip only saves time: no layer needs it. Where a few channels are hundreds of times larger than the others,
the others fall to zero in it, and through the skip every later layer gets that error.
"""

from quantbench.calibration.ranges import Ranges
from quantbench.qdq.plan import Plan
from quantbench.qdq.rules.residual import RULE

BULK_SQNR = "bulk_sqnr_db"
_REASON = f"{RULE}: outliers leave most values of the skip to the noise"


def guarded(plan: Plan, ranges: Ranges, least_db: float) -> tuple[Plan, dict[str, float]]:
    """`plan` without the Q/DQ of each Add one of whose quantized inputs has less than `least_db` dB of signal over
    noise in the bulk of its values (`calibration/noise.py`), and those Adds with the dB of their worst input.

    0 judges none, and ranges that no histogram stands behind (a cache's) are not judged.
    """
    worst: dict[str, float] = {}
    for site in plan.activations:
        known = ranges[site.tensor].histogram.get(BULK_SQNR) if site.tensor in ranges else None
        if site.rule == RULE and known is not None and float(known) < least_db and least_db > 0:
            worst[site.node] = min(worst.get(site.node, float("inf")), float(known))
    if not worst:
        return plan, {}
    kept = tuple(site for site in plan.activations if site.rule != RULE or site.node not in worst)
    return Plan(
        kept, plan.weights, {**plan.kept_float, **dict.fromkeys(worst, _REASON)}, plan.refusals, plan.folded
    ), worst
