"""What `--effort full` adds, adaptive rounding and more sweeps of bias correction, taken where outputs come nearer.

Layers always come nearer when their weights are rounded for their outputs, but activations often round by more, and
then the network's outputs change by chance (docs/accuracy.md). So both models are made, and judged as `auto` judges its
candidates; the full one is taken where it leads by both figures.
"""

from dataclasses import replace

from quantbench.calibration.ranges import Ranges
from quantbench.core.bench import FloatNetwork, Judging, figures, lead, once
from quantbench.progress import Progress
from quantbench.qdq.adaptive_rounding import Rounding
from quantbench.qdq.carry_out import CarriedOut, WeightWork, carry_out
from quantbench.qdq.options import WeightOptions
from quantbench.records.rounding import RoundingJudged


def fully_quantized(
    judging: Judging, ranges: Ranges, weights: WeightOptions, rounding: Rounding, progress: Progress | None = None
) -> CarriedOut:
    """The better of two models of `judging`: plain, and with `rounding` and the sweeps of `weights`; the facts of the
    rounding say which. Without outputs that can be compared it is the plain one."""
    told = progress or Progress("none")
    correction = judging.correction and replace(judging.correction, sweeps=weights.bias_sweeps)
    plain = carry_out(
        judging.model, judging.plan, ranges, judging.correction, weights=WeightWork(weights.scales),
        residual_db=judging.residual_db, progress=told,
    )  # fmt: skip
    full = carry_out(
        judging.model, judging.plan, ranges, correction, weights=WeightWork(weights.scales, rounding),
        residual_db=judging.residual_db, progress=told,
    )  # fmt: skip
    assert full.rounding is not None
    with told.task("Judging", 2 * judging.count) as advance:
        held = FloatNetwork(judging.model, judging.threads).held(once(judging.samples))
        nearest, adaptive = (figures(held.noise(made.model, advance)) for made in (plain, full))
    is_taken = lead(adaptive, nearest) > 0
    judged = RoundingJudged(
        taken=is_taken, apart=judging.apart, samples=judging.count, nearest=nearest, adaptive=adaptive
    )
    facts = full.rounding.model_copy(update={"judged": judged})
    return replace(full if is_taken else plain, rounding=facts)
