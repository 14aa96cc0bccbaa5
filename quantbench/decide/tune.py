"""`quantbench tune`: the variant with the most in INT8 that still meets the goal, found by measuring.

1. Threshold methods, each measured once; the first that meets the goal ends the search (`--effort full`: the best of
   all), else the best goes on.
2. Where all in INT8 misses the goal: skip connections in float, where the rules quantize some. It ends the search where
   it meets the goal; with `--effort full` the better of the two goes on.
3. Cross-layer equalization, then SmoothQuant, each where it takes enough off the noise of a layer's output in the mean
   (`WORTH_TRYING_DB`; `--effort full`: wherever it can); they end the search or go on as in 2.
4. What each region costs (see `sensitivity`). Where one alone in INT8 misses the goal (`--effort full`: anyway) weights
   are rounded adaptively, as the last thing that leaves every layer in INT8. It ends the search where it meets the
   goal; with `--effort full` the better goes on.
5. Regions go to float in the order of noise they bring for the multiply-adds they hold, doubling their number until the
   goal is met, then halving back to the fewest.
6. Step back on overshoot, as NNCF does (docs.openvino.ai, "quantize with accuracy control"): regions return to INT8,
   the most multiply-adds first, and stay there where the goal is still met.
7. Where a device tells the time: the placement that the predictor finds best there, taken where it is faster and still
   meets the goal.
Every step is a measured trial, written down as soon as it is known, so that a killed search goes on where it was.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from quantbench.core.fold_by_outputs import WORTH_TRYING_DB
from quantbench.decide.goal import Goal, quality
from quantbench.decide.sensitivity import Savings, measure_sensitivity, multiply_adds
from quantbench.decide.workbench import Workbench
from quantbench.errors import QuantbenchError
from quantbench.provenance import chosen_versions
from quantbench.ptq.stages import NUMBERS
from quantbench.records.folded import Method
from quantbench.records.search import SENSITIVITY, TUNE, RegionCost, Sensitivity, Settings, Trial, Trials
from quantbench.stage import digest

METHODS = {
    "fast": ("mse", "minmax", "percentile:99.99"),
    "full": ("mse", "minmax", "percentile:99.99", "percentile:99.9", "entropy"),
}
FOLDED: dict[Method, str] = {"equalize": "cross-layer equalization", "smooth": "SmoothQuant"}
_STEPS_BACK = {"fast": 6, "full": 10_000}
# A region of few multiply-adds still costs two reformats when it is float.
_REFORMATS = 0.01
Effort = Literal["fast", "full"]
# Milliseconds of a variant's Q/DQ model, and of the float network, on the device; None where none is known.
Timing = Callable[[Any], tuple[float, float]]


@dataclass
class Search:
    """One search: the bench, the goal, where trials are written, and the words for a command line."""

    bench: Workbench
    goal: Goal
    folder: Path
    start: str
    effort: Effort = "fast"
    timing: Timing | None = None
    savings: Savings | None = None
    trials: list[Trial] = field(default_factory=list)
    _known: dict[Settings, Trial] = field(default_factory=dict)

    def run(self, given: Sensitivity | None = None) -> Trial:
        """The best trial; `given`: costs of regions, which a user may have edited."""
        self._known = self._earlier()
        found = self._search(given)
        return found if found.misses or self.timing is None else self._faster(found)

    def _search(self, given: Sensitivity | None) -> Trial:
        firsts: list[Trial] = []
        start = Settings(best_placement=self.bench.best_placement, adaptive=self.bench.weights.adaptive)
        for method in METHODS[self.effort]:
            firsts.append(self.trial(replace(start, calibrator=method), f"thresholds by {method}"))
            # All in INT8 is as fast by any method: the first that is good enough will do, unless all are asked for.
            if self.effort == "fast" and not firsts[-1].misses:
                return firsts[-1]
        best = max(firsts, key=_order)
        if best.misses and self.has_skips():
            best = self._with(best, replace(best.settings, residual_float=True), "skip connections in float")
        for method in FOLDED:
            plain = best.settings
            scaled = replace(plain, equalize=True) if method == "equalize" else replace(plain, smooth=True)
            if best.misses and self._promises(scaled, method):
                best = self._with(best, scaled, FOLDED[method])
        if not best.misses:
            return best
        costs = given or self._sensitivity(best.settings)
        if not best.settings.adaptive and (self.effort == "full" or any(map(self._misses_alone, costs.regions))):
            best = self._with(best, replace(best.settings, adaptive=True), "weights rounded adaptively")
            if not best.misses:
                return best
        order = sorted(
            (cost for cost in costs.regions if cost.consider and cost.weighted),
            key=lambda cost: -cost.noise / (cost.macs + _REFORMATS),
        )
        fewest = self._fewest(best, order)
        return self._step_back(fewest, order) if not fewest.misses else self._best_of()

    def _with(self, best: Trial, settings: Settings, why: str) -> Trial:
        """The trial of `settings` where it meets the goal, or is better and there is time to go on from it."""
        found = self.trial(settings, why)
        if not found.misses:
            return found
        return max(best, found, key=_order) if self.effort == "full" else best

    def _faster(self, found: Trial) -> Trial:
        """The best placement by the predictor, where it takes less time on the device than `found`."""
        if found.settings.best_placement:
            return found
        best = replace(found.settings, best_placement=True, residual_float=False)
        if self.bench.plan(best) == self.bench.plan(found.settings):
            return found
        tried = self.trial(best, "best placement by the predictor")
        is_faster = tried.ms is not None and found.ms is not None and tried.ms < found.ms
        return tried if is_faster and not tried.misses else found

    def _promises(self, settings: Settings, method: Method) -> bool:
        """Whether scaling channels by `method` gains enough at the outputs of layers to be measured."""
        gain = self.bench.network(settings).gain_db
        return gain is not None and (self.effort == "full" or gain >= WORTH_TRYING_DB[method])

    def has_skips(self) -> bool:
        """Whether the rules quantize skip connections, so that leaving them in float is another variant."""
        start = Settings(best_placement=self.bench.best_placement)
        return self.bench.plan(start) != self.bench.plan(replace(start, residual_float=True))

    def _misses_alone(self, cost: RegionCost) -> bool:
        """Whether the region alone in INT8, all else in float, misses a gate of the goal."""
        gates = self.goal.gates
        lost = 100 * (1 - cost.agreement) if cost.agreement is not None else 0.0
        return (
            (gates.min_sqnr is not None and cost.sqnr_db is not None and cost.sqnr_db < gates.min_sqnr)
            or (gates.min_agreement is not None and lost > 100 - gates.min_agreement)
            or (gates.max_drop is not None and lost > gates.max_drop)
        )

    def trial(self, settings: Settings, why: str) -> Trial:
        """Measure a variant, or take it from an earlier search with the same images and goal."""
        for done in self.trials:
            if done.settings == settings:
                return done
        earlier = self._known.get(settings)
        if earlier is not None:
            measures, ms, float_ms = earlier.measures, earlier.ms, earlier.float_ms
        else:
            quantized = self.bench.quantized(settings)
            measures = self.bench.measure(quantized)
            ms, float_ms = self.timing(quantized) if self.timing is not None else (None, None)
        misses = [*self.goal.misses(measures), *self.goal.late(ms, float_ms)]
        found = Trial(
            number=len(self.trials) + 1, why=why, settings=settings, measures=measures,
            int8_macs=self._int8(settings), misses=tuple(misses), command=f"{self.start} {settings.flags()}", ms=ms,
            float_ms=float_ms,
        )  # fmt: skip
        self.trials.append(found)
        self._save()
        state = "meets the goal" if not found.misses else "; ".join(found.misses)
        self.bench.progress.note(f"Trial {found.number}: {why}: {state}")
        return found

    def _fewest(self, first: Trial, order: Sequence[RegionCost]) -> Trial:
        """The fewest regions of `order` in float that meet the goal: doubled until they do, then halved back."""
        low, high = 0, 1
        met: Trial | None = None
        while met is None and low < len(order):
            high = min(high, len(order))
            trial = self._with_float(first.settings, order[:high])
            if not trial.misses:
                met = trial
            else:
                low, high = high, high * 2
        if met is None:
            return self._best_of()
        while high - low > 1:
            middle = (low + high) // 2
            trial = self._with_float(first.settings, order[:middle])
            if trial.misses:
                low = middle
            else:
                met, high = trial, middle
        return met

    def _step_back(self, found: Trial, order: Sequence[RegionCost]) -> Trial:
        """Return regions to INT8, the largest first, where the goal is still met without them in float."""
        kept = [cost for cost in order if set(cost.weighted) <= set(found.settings.keep_float)]
        largest = sorted(kept, key=lambda cost: -cost.macs)[: _STEPS_BACK[self.effort]]
        for cost in largest:
            if len(kept) < 2:
                break
            fewer = [other for other in kept if other is not cost]
            trial = self._with_float(found.settings, fewer, f"{cost.name} back in INT8")
            if not trial.misses:
                found, kept = trial, fewer
        return found

    def _with_float(self, settings: Settings, regions: Sequence[RegionCost], why: str = "") -> Trial:
        names = tuple(sorted(node for cost in regions for node in cost.weighted))
        words = why or f"{len(regions)} region{'s' if len(regions) > 1 else ''} in float, last {regions[-1].name}"
        return self.trial(replace(settings, keep_float=names), words)

    def _best_of(self) -> Trial:
        return max(self.trials, key=_order)

    def _int8(self, settings: Settings) -> float:
        macs = multiply_adds(self.bench)
        quantized = {site.node for site in self.bench.plan(settings).weights}
        return sum(count for node, count in macs.items() if node in quantized) / max(sum(macs.values()), 1)

    def _sensitivity(self, settings: Settings) -> Sensitivity:
        """Of the network that goes on, its channels scaled where a trial took that."""
        path = self.folder / SENSITIVITY
        # Of the same images, as the trials that are known say.
        if self._known and path.exists():
            earlier = Sensitivity.load(path)
            wanted = settings.calibrator, self.bench.network(settings).scaled_by
            if (earlier.calibrator, earlier.scaled) == wanted:
                return earlier
        found = measure_sensitivity(self.bench, settings, savings=self.savings)
        found.save(path)
        return found

    def identity(self) -> dict[str, str]:
        """What trials of an earlier search must have in common to count."""
        run = self.bench.run
        return {"model": run.model.sha256, "calibration": run.data_facts.sha256,
                "evaluation": run.evaluated_on.sha256, "labels": run.evaluated_on.labels_sha256,
                "placement": digest([self.bench.options, self.bench.predicted, self.bench.weights]),
                "device": run.place.kind,
                "batch": str(run.batch),
                "versions": digest(chosen_versions(*NUMBERS, "onnx-graphsurgeon"))}  # fmt: skip

    def _earlier(self) -> dict[Settings, Trial]:
        try:
            found = Trials.load(self.folder / TUNE)
        except QuantbenchError:
            return {}  # there is none, or one of another version
        return {trial.settings: trial for trial in found.trials} if found.identity == self.identity() else {}

    def _save(self) -> None:
        Trials(identity=self.identity(), trials=tuple(self.trials)).save(self.folder / TUNE)


def most_trials(regions: int, effort: Effort, *, skips: bool, timed: bool) -> int:
    """How many variants a search measures at most: methods, skips in float, equalization and SmoothQuant, adaptive
    rounding, doubling, halving, stepping back, best placement."""
    doubling = math.ceil(math.log2(max(regions, 2))) + 1
    return len(METHODS[effort]) + skips + len(FOLDED) + 1 + 2 * doubling + min(_STEPS_BACK[effort], regions) + timed


def _order(trial: Trial) -> tuple[bool, tuple[float, float]]:
    return not trial.misses, quality(trial.measures)
