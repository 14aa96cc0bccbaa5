"""Equalization and SmoothQuant before a network is quantized, where its own outputs are better for it.

With `auto` each method is first judged by what it takes off the noise of each layer's output, which costs one run over
a few samples: under 2 dB in the mean over all quantized layers it is left, for less was never seen at the outputs of
the networks of docs/accuracy.md. Then the network as it is, with each method, and with both where each helps, is
quantized on the same few samples and held against float on others: the best is taken where it leads by half a decibel
of the worst output, by norms and by SQNR (`quantbench.core.auto` says what these are).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import onnx

from quantbench.calibration.collect import Begin, collect, on_cpu
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.thresholds import Threshold
from quantbench.core.bench import FloatNetwork, figures
from quantbench.folding.options import FoldOptions
from quantbench.folding.sites import Folding, look
from quantbench.folding.together import carried_out, foldings_of, mean_gain
from quantbench.graph.view import GraphView
from quantbench.progress import Progress
from quantbench.qdq.carry_out import Correction, carry_out
from quantbench.qdq.plan import Plan
from quantbench.records.folded import Absorbed, Folded, FoldTrial, Method
from quantbench.runnable import lacking

# Samples that channels are looked at and trials made on, and others that trials are judged on.
SEEN, JUDGED = 64, 32
WORTH_TRYING_DB = 2.0
_LEAD_DB = 0.5


@dataclass(frozen=True, slots=True)
class Foldable:
    """A float model, its view and the plan that it will be quantized by. `seen` opens the calibration samples that are
    looked at (`SEEN` are plenty) and `judged` others, as many as there are; `threshold` makes the ranges of trials,
    whose biases are corrected where the result's will be; `begin`: where tensors are counted."""

    model: onnx.ModelProto
    view: GraphView
    plan: Plan
    seen: Callable[[], Iterable[Feed]]
    seen_count: int
    judged: Callable[[], Iterable[Feed]]
    judged_count: int
    threshold: Threshold
    corrected: bool = True
    residual_db: float = 0.0
    threads: int = 0
    progress: Progress = field(default_factory=lambda: Progress("none"))
    begin: Begin = on_cpu

    @property
    def layers(self) -> frozenset[str]:
        """Names of the layers that will be quantized."""
        return frozenset(site.node for site in self.plan.weights)


def fold_samples(count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of those of `count` calibration samples that are looked at, and of those that trials are judged on: every
    third, up to `JUDGED`, so that none is both; of fewer than three all are."""
    judged = tuple(range(0, count, max(3, count // JUDGED)))[:JUDGED]
    held = set(judged)
    seen = [index for index in range(count) if index not in held][:: max(1, (count - len(judged)) // SEEN)][:SEEN]
    return (tuple(seen), judged) if count >= 3 else (tuple(range(count)), tuple(range(count)))


def fold_by_outputs(given: Foldable, options: FoldOptions) -> tuple[onnx.ModelProto, Folded]:
    """`given.model` with what `options` ask for, the same nodes and tensors under the same names with other constants,
    and what was done and passed by, and why. It is `given.model` itself where nothing was done.

    The plan stays valid; ranges have to be measured on the result. A model of which a plugin cannot be run here is
    left alone.
    """
    if not options.asked or lacking(given.model):
        return given.model, Folded(equalize=options.equalize, smooth=options.smooth)
    with given.progress.task("Looking at channels", given.seen_count) as advance:
        looked = look(given.model, given.view, given.seen, given.seen_count, threads=given.threads, on_batch=advance)
    found = foldings_of(looked, given.layers, options.asked)
    made: dict[tuple[Method, ...], tuple[onnx.ModelProto, tuple[Absorbed, ...]]] = {(): (given.model, ())}

    def make(methods: tuple[Method, ...]) -> onnx.ModelProto:
        if methods not in made:
            chosen = {method: found[method] for method in methods}
            made[methods] = carried_out(looked, given.view, given.layers, chosen)
        return made[methods][0]

    always = tuple(method for method in options.asked if options.is_on(method))
    tried = tuple(method for method in options.asked if not options.is_on(method) and _is_worth(found, method, given))
    taken, trials = _best(given, always, tried, make) if tried else (always, ())
    model = make(taken)
    folded = Folded(
        equalize=options.equalize,
        smooth=options.smooth,
        taken=tuple(m for m in taken if found[m].sites or (m == "equalize" and made[taken][1])),
        sites=tuple(site for method in options.asked for site in found[method].sites),
        absorbed=made[taken][1],
        passed_by=tuple(entry for method in options.asked for entry in found[method].passed_by),
        trials=trials,
        samples=given.judged_count if trials else 0,
    )
    return model if folded.taken else given.model, folded


def _is_worth(found: Mapping[Method, Folding], method: Method, given: Foldable) -> bool:
    return mean_gain({method: found[method]}, given.layers) >= WORTH_TRYING_DB


def _best(
    given: Foldable,
    always: tuple[Method, ...],
    tried: tuple[Method, ...],
    make: Callable[[tuple[Method, ...]], onnx.ModelProto],
) -> tuple[tuple[Method, ...], tuple[FoldTrial, ...]]:
    """The methods of the best trial, and all trials."""
    bench = _Bench(given)
    each = given.judged_count * (2 + len(tried))
    with given.progress.task("Trying equalization and SmoothQuant", each) as advance:
        trials = [bench.trial(always, make(always), advance)]
        trials += [bench.trial((*always, method), make((*always, method)), advance) for method in tried]
        good = [trial for trial in trials[1:] if _lead(trial, trials[0]) >= _LEAD_DB]
        if len(good) > 1:
            both = (*always, *tried)
            trials.append(bench.trial(both, make(both), advance))
            good.append(trials[-1])
        else:
            advance(given.judged_count)
    best = max(good, key=lambda trial: _lead(trial, trials[0]), default=trials[0])
    return best.methods, tuple(trials)


def _lead(one: FoldTrial, other: FoldTrial) -> float:
    if one.norms_db is None or other.norms_db is None or one.sqnr_db is None or other.sqnr_db is None:
        return float("-inf")
    return min(one.norms_db - other.norms_db, one.sqnr_db - other.sqnr_db)


class _Bench:
    """Trials against the float outputs, which are computed once."""

    def __init__(self, given: Foldable) -> None:
        self._given = given
        feeds = list(given.judged())
        self._held = FloatNetwork(given.model, given.threads).held(lambda: feeds)

    def trial(self, methods: tuple[Method, ...], model: onnx.ModelProto, advance: Callable[[int], None]) -> FoldTrial:
        """`model`, made by `methods`, quantized on the samples that were seen and judged on the others."""
        given = self._given
        histograms = collect(model, given.seen(), given.plan.tensors, threads=given.threads, begin=given.begin)
        ranges = find_ranges(histograms, "trial", given.threshold)
        correction = Correction(given.seen, given.seen_count, given.threads) if given.corrected else None
        quantized = carry_out(model, given.plan, ranges, correction, residual_db=given.residual_db).model
        db = figures(self._held.noise(quantized, advance))
        return FoldTrial(
            methods=methods,
            norms_db=round(db.norms, 2) if db is not None else None,
            sqnr_db=round(db.sqnr, 2) if db is not None else None,
        )
