"""How close the next best kernel came: choices that another build may make otherwise."""

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.table import rows
from quantbench.inspection.verdicts.verdict import Item, Verdict, label

CLOSE = 0.03


def judge(inspection: Inspection) -> list[Verdict]:
    """Layers whose second kernel is within 3 % of the first, slowest first."""
    near = [r for r in rows(inspection) if r.margin is not None and r.margin < CLOSE and r.kernel_ms]
    if not near:
        return []
    near.sort(key=lambda r: -(r.kernel_ms or 0))
    timed = sum(1 for r in rows(inspection) if r.margin is not None)
    items = tuple(
        Item(label(r.layer), f"{r.kernel} {r.kernel_ms:.4g} ms, next {r.runner_up} {r.runner_up_ms:.4g} ms "
             f"(+{100 * (r.margin or 0):.1f} %)", r.kernel_ms)
        for r in near
    )  # fmt: skip
    return [
        Verdict(
            "runner_up", "note", f"{len(near)} of {timed} timed kernels won by less than 3 %",
            "Timing noise decides such choices, so another build may choose otherwise and differ in the last digits.",
            "Build with a timing cache where builds must agree.", items,
        )
    ]  # fmt: skip
