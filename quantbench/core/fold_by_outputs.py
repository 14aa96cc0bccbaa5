"""Equalization and SmoothQuant before a network is quantized, where its own outputs are better for it.

With `auto` three steps decide, each far dearer than the one before, and most networks go no further than the first:

1. the graph tells which channels can be scaled at all, and 8 samples roughly (`quantbench.folding.rough_error`) what
   that takes off the noise of a layer's output, four of them held against scales that the others give and the other
   way round. A method that promises less than `_WORTH_A_LOOK_DB` in the mean over all quantized layers is left;
2. up to 64 samples give the scales, and what they take off more exactly: under `WORTH_TRYING_DB` the method is left,
   for less was seldom worth a trial on the networks of docs/accuracy.md;
3. the network as it is, with each method, and with both where each helps, is quantized on a few samples and held
   against float on others: the best is taken where it leads by half a decibel of the worst output, by norms and by
   SQNR (`quantbench.core.bench` says what these are).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import onnx

from quantbench.calibration.collect import Begin, collect, on_cpu
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.thresholds import Threshold
from quantbench.core.bench import FloatNetwork, figures, spread
from quantbench.errors import QuantbenchError
from quantbench.folding.channels import Channels
from quantbench.folding.options import FoldOptions
from quantbench.folding.rows import Samples
from quantbench.folding.sites import Folding, Looked, channels_of, look
from quantbench.folding.together import carried_out, foldings_of, mean_gain
from quantbench.graph.view import GraphView
from quantbench.progress import PASSES, Progress
from quantbench.qdq.carry_out import Correction, carry_out
from quantbench.qdq.layouts import layouts_for
from quantbench.qdq.plan import Plan
from quantbench.records.folded import Absorbed, Folded, FoldGain, FoldTrial, Method
from quantbench.runnable import lacking

# Samples that scales are made from, and others that trials are judged on.
SEEN, JUDGED = 64, 24
# Of the first, those that a rough look is had at, and those that trials are quantized on.
_GLANCED, _TRIED = 8, 24
# With fewer samples in all nothing is told from them but what is `on`.
_FEWEST = 8
# SmoothQuant took 1.2 to 2.0 dB off the noise of layers on four transformers without bringing their outputs nearer; a
# norm with a few loud channels promises 15.
_WORTH_A_LOOK_DB: dict[Method, float] = {"equalize": 1.25, "smooth": 3.0}
WORTH_TRYING_DB: dict[Method, float] = {"equalize": 1.4, "smooth": 3.0}
_LEAD_DB = 0.5


@dataclass(frozen=True, slots=True)
class FoldSamples:
    """Calibration samples: scales are made from those that are `seen`; of these the `glanced` get a rough look, and
    trials are quantized on the `tried`, judged on others. `whole`: how many there are in all."""

    glanced: Samples
    seen: Samples
    tried: Samples
    judged: Samples
    whole: int


@dataclass(frozen=True, slots=True)
class Foldable:
    """A float model, its view and the plan that it will be quantized by; `threshold` makes the ranges of trials, whose
    biases are corrected where the result's will be; `begin`: where tensors are counted."""

    model: onnx.ModelProto
    view: GraphView
    plan: Plan
    samples: FoldSamples
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


def fold_samples(
    count: int, opened: Callable[[Sequence[int]], Callable[[], Iterable[Feed]]], *, each: int = 1
) -> FoldSamples:
    """Which of `count` calibration samples serve for what, or of batches of `each`; `opened` opens those of some
    indices. Every third, up to `JUDGED`, is judged on, so that none of these is seen; of fewer than three all are both.
    """
    seen_most, judged_most = -(-SEEN // each), -(-JUDGED // each)
    judged: Sequence[int] = range(0, count, max(3, count // judged_most))[:judged_most]
    held = set(judged)
    others = [index for index in range(count) if index not in held]
    seen: Sequence[int] = others[:: max(1, len(others) // seen_most)][:seen_most]
    if count < 3:
        seen = judged = range(count)
    glanced, tried = (spread(seen, -(-most // each)) for most in (_GLANCED, _TRIED))

    def samples(indices: Sequence[int]) -> Samples:
        return Samples(opened(indices), len(indices) * each)

    return FoldSamples(samples(glanced), samples(seen), samples(tried), samples(judged), count * each)


def fold_by_outputs(given: Foldable, options: FoldOptions) -> tuple[onnx.ModelProto, Folded]:
    """`given.model` with what `options` ask for, the same nodes and tensors under the same names with other constants,
    and what was done and passed by, and why. It is `given.model` itself where nothing was done.

    The plan stays valid; ranges have to be measured on the result. A model of which a plugin cannot be run here is
    left alone, and with few samples, or such as cannot be used, what is not `on`.
    """
    try:
        return _folded(given, options)
    except QuantbenchError:
        if any(map(options.is_on, options.asked)):
            raise
        # What is wrong with all samples calibration finds too, and says in its own words.
        return given.model, Folded(equalize=options.equalize, smooth=options.smooth)


def _folded(given: Foldable, options: FoldOptions) -> tuple[onnx.ModelProto, Folded]:
    always = tuple(method for method in options.asked if options.is_on(method))
    few = given.samples.whole < _FEWEST
    tried = () if few else tuple(method for method in options.asked if method not in always)
    folded = Folded(equalize=options.equalize, smooth=options.smooth)
    if not (*always, *tried) or not given.plan.weights or lacking(given.model):
        return given.model, folded
    channels = channels_of(given.model, given.view, given.samples.glanced.opened, threads=given.threads)
    found: dict[Method, Folding] = {}
    gains: dict[Method, FoldGain] = {}
    looked: Looked | None = None
    for roughly, least in ((True, _WORTH_A_LOOK_DB), (False, WORTH_TRYING_DB)):
        methods = tried if roughly else (*always, *tried)
        if methods:
            looked = _look(given, channels, roughly=roughly)
            found |= foldings_of(looked, given.layers, methods)
            gains |= _gains(looked, found, given, methods)
            tried = tuple(method for method in tried if gains[method].gain_db >= least[method])
    made: dict[tuple[Method, ...], tuple[onnx.ModelProto, tuple[Absorbed, ...]]] = {(): (given.model, ())}

    def make(methods: tuple[Method, ...]) -> onnx.ModelProto:
        if methods not in made:
            assert looked is not None
            chosen = {method: found[method] for method in methods}
            made[methods] = carried_out(looked, given.view, given.layers, chosen)
        return made[methods][0]

    taken, trials = _best(given, always, tried, make) if tried else (always, ())
    model = make(taken)
    folded = folded.model_copy(
        update={
            "taken": tuple(m for m in taken if found[m].sites or (m == "equalize" and made[taken][1])),
            "sites": tuple(site for folding in found.values() for site in folding.sites),
            "absorbed": made[taken][1],
            "passed_by": tuple(entry for folding in found.values() for entry in folding.passed_by),
            "gains": tuple(gains.values()),
            "trials": trials,
            "samples": given.samples.judged.count if trials else 0,
        }
    )
    return model if folded.taken else given.model, folded


def _look(given: Foldable, channels: Channels, *, roughly: bool) -> Looked:
    samples = given.samples.glanced if roughly else given.samples.seen
    with given.progress.task("Looking at channels", samples.count) as advance:
        return look(
            given.model, channels, given.layers, samples, roughly=roughly,
            threads=given.threads, on_batch=advance,
        )  # fmt: skip


def _gains(
    looked: Looked, found: Mapping[Method, Folding], given: Foldable, methods: Sequence[Method]
) -> dict[Method, FoldGain]:
    """What each of `methods` promises. Of few samples one half says little of the other, so that a rough look is held
    both ways."""
    both = [found]
    if looked.roughly:
        both.append(foldings_of(looked.swapped(), given.layers, methods))
    samples = given.samples.glanced if looked.roughly else given.samples.seen
    return {
        method: FoldGain(
            method=method,
            gain_db=round(fmean(mean_gain(one[method], given.layers) for one in both), 2),
            samples=samples.count,
            roughly=looked.roughly,
        )
        for method in methods
    }


def _best(
    given: Foldable,
    always: tuple[Method, ...],
    tried: tuple[Method, ...],
    make: Callable[[tuple[Method, ...]], onnx.ModelProto],
) -> tuple[tuple[Method, ...], tuple[FoldTrial, ...]]:
    """The methods of the best trial, and all trials."""
    bench = _Bench(given)
    judged = given.samples.judged.count
    each = judged * (2 + len(tried))
    with given.progress.task("Trying equalization and SmoothQuant", each, PASSES) as advance:
        trials = [bench.trial(always, make(always), advance)]
        trials += [bench.trial((*always, method), make((*always, method)), advance) for method in tried]
        good = [trial for trial in trials[1:] if _lead(trial, trials[0]) >= _LEAD_DB]
        if len(good) > 1:
            both = (*always, *tried)
            trials.append(bench.trial(both, make(both), advance))
            good.append(trials[-1])
        else:
            advance(judged)
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
        feeds = list(given.samples.judged.opened())
        self._held = FloatNetwork(given.model, given.threads).held(lambda: feeds)

    def trial(self, methods: tuple[Method, ...], model: onnx.ModelProto, advance: Callable[[int], None]) -> FoldTrial:
        """`model`, made by `methods`, quantized on the samples that were seen and judged on the others."""
        given = self._given
        seen = given.samples.tried
        histograms = collect(model, seen.opened(), given.plan.tensors, threads=given.threads, begin=given.begin)
        correction = Correction(seen.opened, seen.count, given.threads) if given.corrected else None
        layouts = layouts_for(model, given.plan, histograms, correction)
        ranges = find_ranges(histograms, "trial", given.threshold, layouts)
        quantized = carry_out(model, given.plan, ranges, correction, residual_db=given.residual_db).model
        db = figures(self._held.noise(quantized, advance))
        return FoldTrial(
            methods=methods,
            norms_db=round(db.norms, 2) if db is not None else None,
            sqnr_db=round(db.sqnr, 2) if db is not None else None,
        )
