"""auto: the threshold method under which the network's own outputs come out best, judged on calibration samples.

No one method wins on every network, but mse leads or is even on most (docs/accuracy.md). Candidates all make thresholds
of the same histograms, so that the images are counted once. A first round inserts each and holds its outputs against
float. mse, minmax and the best of the others, where it leads mse, are then made as the result will be, biases corrected
on the same samples, and held against float again:

1. minmax takes the place of mse where it leads it (as 2. has it), or by SQNR alone by more than half a decibel;
2. another takes the place of that where it leads it by norms, sample by sample beyond chance, and is no worse by SQNR,
   but for 0.1 dB.

Norms: 20 log10 (sum of |x| / sum of |x - x_int8|), the Euclidean norms of each sample, of the worst output, hangs less
on chance. SQNR, the ratio of energies, is that of the few samples with the most signal or noise, but these may be all
that matters (a detector of text on pictures without text).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ort_outputs import Feed, padded, static_batch, unpadded
from quantbench.calibration.ranges import Ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.quantize import BIAS_IMAGES, for_onnxruntime
from quantbench.evaluate.pairs import Noise, worst
from quantbench.evaluate.task import OutputFacts, Task, facts_of, find_task
from quantbench.ort import create_session
from quantbench.progress import Advance, Progress
from quantbench.qdq.carry_out import CarriedOut, Correction, carry_out
from quantbench.qdq.plan import Plan
from quantbench.records.evaluation import Measured
from quantbench.records.judged import Candidate, Judged, JudgedDb
from quantbench.runnable import runnable_part

AUTO = "auto"
SAFE, PRIOR = "minmax", "mse"
# Those that lead on some network of docs/accuracy.md.
CANDIDATES = (SAFE, PRIOR, "percentile:99.999", "percentile:99.99", "entropy")
JUDGED = 64
_FIRST_ROUND = 16
# dB of SQNR on so few samples that are no difference.
_EVEN = 0.1
# dB of SQNR by which mse may be behind minmax before that is taken for more than chance.
_BEHIND = 0.5
# Standard errors of the mean that a lead must have: 95 % of leads by chance are smaller (normal, one-sided).
_BEYOND_CHANCE = 1.645
# Of judged and of correcting samples each.
_KEPT_BYTES = 256_000_000
# With fewer others than this, samples that correct biases are judged on too.
_FEW = 16

OpenFeeds = Callable[[], Iterable[Feed]]


@dataclass(frozen=True, slots=True)
class Judging:
    """What candidates are made and judged with. `samples` opens the `count` samples that they are judged on;
    `correction`: the result's own (None: biases stay); `apart`: no judged sample corrects biases."""

    model: onnx.ModelProto
    plan: Plan
    samples: OpenFeeds
    count: int
    correction: Correction | None
    apart: bool
    residual_db: float = 0.0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """The ranges of the best candidate, its model as it was judged, and what each candidate came to."""

    ranges: Ranges
    made: CarriedOut
    judged: Judged


def judged_samples(count: int) -> tuple[tuple[int, ...], bool]:
    """Indices of those of `count` calibration samples that candidates are judged on, spread evenly, and whether they
    are apart from those that correct biases (`BIAS_IMAGES`, spread evenly)."""
    correcting = set(_spread(range(count), BIAS_IMAGES))
    others = [index for index in range(count) if index not in correcting]
    apart = len(others) >= _FEW
    return _spread(others if apart else range(count), JUDGED), apart


def best_by_outputs(histograms: Mapping[str, Histogram], judging: Judging, progress: Progress | None = None) -> Taken:
    """The best candidate, by the two rules of this module.

    Where no output can be compared (a model of integer outputs) minmax is taken. Raises QuantbenchError where nothing
    can be quantized.
    """
    bench = Bench(judging)
    ranges = {name: find_ranges(histograms, name, threshold_method(name)) for name in CANDIDATES}
    few = min(_FIRST_ROUND, judging.count)
    total = len(CANDIDATES) * few + 3 * judging.count
    with (progress or Progress("none")).task("Judging thresholds", total) as advance:
        first = {name: bench.judge(bench.inserted(ranges[name]), few, advance) for name in CANDIDATES}
        rival = max(CANDIDATES, key=lambda name: lead(first[name], first[PRIOR]))
        made = {name: bench.finished(ranges[name]) for name in dict.fromkeys((SAFE, PRIOR, rival))}
        last = {name: bench.judge(model, judging.count, advance) for name, model in made.items()}
        advance((3 - len(made)) * judging.count)
    taken = best_of(last, rival)
    candidates = tuple(
        Candidate(
            method=name,
            first=one.db if (one := first[name]) is not None else None,
            finished=one.db if (one := last.get(name)) is not None else None,
        )
        for name in CANDIDATES
    )
    corrected = judging.correction is not None
    judged = Judged(taken=taken, samples=judging.count, apart=judging.apart, corrected=corrected, candidates=candidates)
    return Taken(ranges[taken], made[taken], judged)


@dataclass(frozen=True, slots=True)
class _Figures:
    """What a candidate came to: norms [2, samples] by output, reference and noise, and the record of the worst."""

    norms: Mapping[str, NDArray[np.float64]]
    db: JudgedDb

    @property
    def worst(self) -> str:
        """The output of which the noise is largest."""
        return min(self.norms, key=lambda name: _norms_db(self.norms[name]))


def _norms_db(norms: NDArray[np.float64]) -> float:
    signal, noise = norms.sum(axis=1)
    return 20.0 * math.log10(signal / noise) if signal > 0 and noise > 0 else math.inf


def lead(one: _Figures | None, safe: _Figures | None) -> float:
    """How far `one` leads by the figure in which it leads less, in dB."""
    if one is None or safe is None:
        return -math.inf
    return min(one.db.norms - safe.db.norms, one.db.sqnr - safe.db.sqnr)


def _is_better(one: _Figures | None, safe: _Figures | None) -> bool:
    if one is None or safe is None or one.db.sqnr < safe.db.sqnr - _EVEN or one.db.norms <= safe.db.norms:
        return False
    ours, theirs = one.norms[one.worst][1], safe.norms[one.worst][1]
    some = (ours > 0) & (theirs > 0)
    # In its own unit a lead is that of the samples with the most noise; as a ratio each sample counts alike.
    return _beyond_chance(theirs - ours) or _beyond_chance(np.log(theirs[some] / ours[some]))


def _beyond_chance(leads: NDArray[np.float64]) -> bool:
    return len(leads) > 0 and bool(leads.mean() > _BEYOND_CHANCE * leads.std() / len(leads) ** 0.5)


def best_of(finished: Mapping[str, "_Figures | None"], rival: str) -> str:
    """The one taken of minmax, mse and `rival`, by the two rules of this module."""
    safe, prior = finished[SAFE], finished[PRIOR]
    if safe is None or prior is None:
        return SAFE
    behind = safe.db.sqnr > prior.db.sqnr + _BEHIND
    base = SAFE if behind or _is_better(safe, prior) else PRIOR
    return rival if rival not in (SAFE, PRIOR) and _is_better(finished[rival], finished[base]) else base


def _spread(indices: Sequence[int], count: int) -> tuple[int, ...]:
    if len(indices) <= count:
        return tuple(indices)
    return tuple(indices[int(place)] for place in np.linspace(0, len(indices) - 1, count))


def _once(opened: OpenFeeds) -> OpenFeeds:
    """`opened`, decoded once where the feeds are at most `_KEPT_BYTES`: every candidate walks them."""
    kept: list[Feed] = []
    state = {"whole": False, "bytes": 0}

    def walk() -> Iterator[Feed]:
        if state["whole"]:
            yield from kept
            return
        kept.clear()
        state["bytes"] = 0
        for feed in opened():
            state["bytes"] += sum(np.asarray(array).nbytes for array in feed.values())
            if state["bytes"] <= _KEPT_BYTES:
                kept.append(feed)
            else:
                kept.clear()
            yield feed
        state["whole"] = state["bytes"] <= _KEPT_BYTES

    return walk


class Bench:
    """Makes candidates and holds them against the float outputs of the judged samples, which are computed once."""

    def __init__(self, judging: Judging) -> None:
        held = judging.correction
        self._judging = replace(
            judging,
            samples=_once(judging.samples),
            correction=held and replace(held, feeds=_once(held.feeds)),
        )
        self._plain = runnable_part(judging.model)
        self._batch = static_batch(self._plain)
        self._names = tuple(value.name for value in self._plain.graph.output)
        self._facts: OutputFacts = facts_of(judging.model)
        self._task: Task | None = None
        self._float: list[list[NDArray[Any]]] = []

    def inserted(self, ranges: Ranges) -> CarriedOut:
        """The Q/DQ model of the plan with `ranges`, biases as they are."""
        judging = self._judging
        return carry_out(judging.model, judging.plan, ranges, residual_db=judging.residual_db)

    def finished(self, ranges: Ranges) -> CarriedOut:
        """The same as the result would be."""
        judging = self._judging
        return carry_out(judging.model, judging.plan, ranges, judging.correction, residual_db=judging.residual_db)

    def judge(self, made: CarriedOut, limit: int, advance: Advance) -> _Figures | None:
        """Figures of the worst output on `limit` samples, or up to a batch more; None where none can be compared."""
        if not self._float:
            plain = create_session(self._plain, threads=self._judging.threads)
            self._float = [self._run(plain, feed) for feed in self._judging.samples()]
        session = create_session(for_onnxruntime(runnable_part(made.model)), threads=self._judging.threads)
        self._task = self._task or find_task(self._float[0], self._facts, "auto")
        noise, seen = Noise(self._task, self._names), 0
        for feed, reference in zip(self._judging.samples(), self._float, strict=True):
            count = len(next(iter(feed.values())))
            noise.update(reference, self._run(session, feed), count)
            advance(count)
            seen += count
            if seen >= limit:
                break
        norms, sqnr = noise.norms(), worst(noise.result())
        lowest = min((_norms_db(one) for one in norms.values()), default=math.inf)
        if not isinstance(sqnr, Measured) or lowest == math.inf:
            return None
        return _Figures(norms, JudgedDb(norms=lowest, sqnr=sqnr.value))

    def _run(self, session: Any, feed: Feed) -> list[NDArray[Any]]:
        count = len(next(iter(feed.values())))
        return [unpadded(array, self._batch, count) for array in session.run(None, padded(feed, self._batch))]
