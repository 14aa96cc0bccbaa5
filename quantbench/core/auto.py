"""auto: mse over the samples that hold the outputs' energy, unless minmax is better at the outputs beyond chance.

mse leads on nearly all networks of docs/accuracy.md; where it does not, either few samples hold all signal, or rare
large values do. So:

1. the float network runs on up to 64 calibration samples. Where few of them hold nearly all energy of an output
   (`quantbench.core.signal`: a detector of text, pictures without text), mse's thresholds are searched over the values
   of these few, counted anew; else over those of all that was calibrated on;
2. minmax is held beside it: both are inserted, biases as they are, and run on 16 samples. Where minmax leads there,
   both have their biases corrected as the result has, and are compared again; minmax is taken where it leads again.

Minmax leads where its SQNR is higher and the noise of each sample is lower on average, in dB and weighted by the
sample's share of the output's energy, by more than 1.645 standard errors. SQNR alone is a sum that few samples make up:
on 64 samples it does not tell leads under about 1 dB.

The calibration data is counted once; the float outputs are computed once for both; the model that is taken is the one
that was compared, its biases corrected, and not made again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.collect import collect
from quantbench.calibration.find_ranges import ALL_SYMMETRIC, Layouts, find_ranges, range_of
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.layout import SYMMETRIC
from quantbench.calibration.ort_outputs import images_of
from quantbench.calibration.ranges import Ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.bench import FloatNetwork, Held, Judging, once, spread
from quantbench.core.signal import Signal, energies_of, rows_of, shares, together
from quantbench.core.waiting import Waiting
from quantbench.evaluate.task import Task
from quantbench.progress import PASSES, Advance, Progress
from quantbench.qdq.carry_out import CarriedOut, carry_out, with_biases
from quantbench.qdq.layouts import layouts_for, note_layouts
from quantbench.records.judged import Beside, Judged

AUTO = "auto"
SAFE, PRIOR = "minmax", "mse"
# On which both are compared.
_COMPARED = 16
# Of float outputs, the first ones, so that those of the batches that are compared on need not be computed again.
_KEPT_BYTES = 64_000_000
# Standard errors of the mean that a lead must have: 95 % of leads by chance are smaller (normal, one-sided).
_BEYOND_CHANCE = 1.645
# dB in place of infinity, which JSON has not.
_INFINITE = 1000.0
# Of what an only sample leaves of 1 - sum w^2 but for rounding.
_ONE = 1e-9


@dataclass(frozen=True, slots=True)
class Taken:
    """The ranges that were taken, the finished model, and what was found on the way."""

    ranges: Ranges
    made: CarriedOut
    judged: Judged


def best_by_outputs(histograms: Mapping[str, Histogram], judging: Judging, progress: Progress | None = None) -> Taken:
    """mse or minmax, as this module has it. Raises QuantbenchError where nothing can be quantized."""
    shown = progress or Progress("none")
    bench = _Bench(judging)
    with shown.task("Judging thresholds", judging.count + 2 * _COMPARED, PASSES) as advance:
        signal = bench.signal(advance)
        holders = signal.holders()
        bench.choose(holders if signal.energies else None)
        layouts = bench.layouts = layouts_for(judging.model, judging.plan, histograms, judging.correction)
        searched = bench.counted(holders, tuple(histograms)) if holders else histograms
        ranges = {
            PRIOR: _least_error(histograms, searched, layouts),
            SAFE: find_ranges(histograms, SAFE, threshold_method(SAFE)),
        }
        if signal.energies:
            makers = {name: partial(bench.inserted, each) for name, each in ranges.items()}
            made, found = _compared(bench, makers, advance, corrected=False)
        else:
            made, found = {PRIOR: Waiting(bench.inserted(ranges[PRIOR]))}, []
    ahead = bool(found) and leads(found[-1])
    again = ahead and judging.correction is not None
    if again:
        makers = {name: partial(bench.finished, each, shown) for name, each in made.items()}
        made, more = _compared(bench, makers, lambda _: None, corrected=True)
        found += more
        ahead = leads(found[-1])
    taken = SAFE if ahead else PRIOR
    waiting = made.pop(taken)
    made.clear()
    done = waiting.taken() if again else bench.finished(waiting, shown)
    count = len(holders) or judging.count
    judged = Judged(taken=taken, samples=judging.count, searched=count, beside=tuple(found))
    return Taken(ranges[taken], done, judged)


def leads(beside: Beside) -> bool:
    """Whether minmax leads beyond chance."""
    return beside.minmax_db > beside.mse_db and beside.lead_db > _BEYOND_CHANCE * beside.error_db


def beside(prior: Mapping[str, NDArray[np.float64]], safe: Mapping[str, NDArray[np.float64]], *,
           corrected: bool) -> Beside | None:  # fmt: skip
    """mse (`prior`) and minmax (`safe`) by the energies [2, samples], reference and noise, of each output: at the one
    that comes out worst with mse. None where none has both."""
    some = {name: _decibels(energies) for name, energies in prior.items() if _decibels(energies) < math.inf}
    name = min(some, key=lambda each: some[each], default="")
    if not name or name not in safe:
        return None
    signal, ours = prior[name]
    theirs = safe[name][1]
    tiny = np.finfo(np.float64).tiny
    weights = shares(signal)
    ratio = 10 * np.log10(np.maximum(ours, tiny) / np.maximum(theirs, tiny))
    lead = float(weights @ ratio)
    # As Bessel's correction has it, of so many effective samples; of one alone there is no error to tell.
    unbiased = 1.0 - float(weights @ weights)
    error = float(np.sqrt(weights**2 @ (ratio - lead) ** 2 / unbiased)) if unbiased > _ONE else _INFINITE
    other = min(_decibels(safe[name]), _INFINITE)
    return Beside(
        samples=len(ours), corrected=corrected, mse_db=some[name], minmax_db=other, lead_db=lead, error_db=error
    )


def _decibels(energies: NDArray[np.float64]) -> float:
    """SQNR; infinite where there is nothing to compare."""
    signal, noise = energies.sum(axis=1)
    return 10.0 * math.log10(signal / noise) if 0 < signal < math.inf and 0 < noise < math.inf else math.inf


def _compared(
    bench: "_Bench", makers: Mapping[str, Callable[[], CarriedOut]], advance: Advance, *, corrected: bool
) -> tuple[dict[str, Waiting], list[Beside]]:
    """Both models, made and held against the float outputs one after the other, and what came of it."""
    made, energies = {}, {}
    for name, make in makers.items():
        one = make()
        energies[name] = bench.energies(one, advance)
        made[name] = Waiting(one)
        del one  # else it would lie beside the next one while that is made
    found = beside(energies[PRIOR], energies[SAFE], corrected=corrected)
    return made, [found] if found is not None else []


def _least_error(histograms: Mapping[str, Histogram], searched: Mapping[str, Histogram], layouts: Layouts) -> Ranges:
    """Thresholds of mse, searched over `searched`; what these never saw is searched over all."""
    threshold = threshold_method(PRIOR)
    seen = {name: searched[name] if searched[name].amax > 0 else each for name, each in histograms.items()}
    amax = {name: threshold(each, layouts.get(name, SYMMETRIC)) for name, each in seen.items()}
    return Ranges({name: range_of(each, name, PRIOR, amax[name]) for name, each in histograms.items()})


class _Bench:
    """Makes both models and holds them against the float outputs of the chosen samples, which are computed once."""

    def __init__(self, judging: Judging) -> None:
        held = judging.correction
        corrects = held and replace(held, feeds=once(held.feeds))
        self._judging = replace(judging, samples=once(judging.samples), correction=corrects)
        self._network: FloatNetwork | None = FloatNetwork(judging.model, judging.threads)
        self._task: Task | None = None
        self._counts: list[int] = []
        self._outputs: list[list[NDArray[Any]]] = []
        self._held: Held | None = None
        self.layouts: Layouts = ALL_SYMMETRIC

    def signal(self, advance: Advance) -> Signal:
        """What the float network gives on all samples."""
        network, batches, kept = self._network, [], 0
        assert network is not None
        for feed, outputs in network.outputs(self._judging.samples()):
            self._task = self._task or network.task(outputs)
            count = images_of(feed)
            batches.append(energies_of(dict(zip(network.names, outputs, strict=True)), count))
            self._counts.append(count)
            kept += sum(array.nbytes for array in outputs)
            if kept <= _KEPT_BYTES:
                self._outputs.append(outputs)
            advance(count)
        return together(batches)

    def counted(self, indices: Sequence[int], tensors: Sequence[str]) -> dict[str, Histogram]:
        """Histograms of those samples alone."""
        judging = self._judging
        rows = rows_of(judging.samples(), indices)
        return collect(judging.model, rows, tensors, threads=judging.threads, begin=judging.begin)

    def choose(self, holders: Sequence[int] | None) -> None:
        """The samples to compare on: some of `holders`; where there are none some batches, whole; None: nothing is
        compared. The end of the float network: its weights need not lie beside those of the models made next."""
        network, self._network = self._network, None
        if holders is None:
            return
        known = None
        if not holders:
            wanted = spread(range(len(self._counts)), -(-_COMPARED // max(self._counts)))
            starts = np.cumsum([0, *self._counts])
            holders = [i for batch in wanted for i in range(starts[batch], starts[batch + 1])]
            if wanted[-1] < len(self._outputs):
                known = [self._outputs[batch] for batch in wanted]
        else:
            holders = spread(holders, _COMPARED)
        chosen = list(rows_of(self._judging.samples(), holders))
        assert network is not None
        self._held = network.held(lambda: chosen, self._task, known)
        self._outputs.clear()

    def inserted(self, ranges: Ranges) -> CarriedOut:
        """The Q/DQ model of the plan with `ranges`, its integers laid out as the result's, biases as they are."""
        judging = self._judging
        made = carry_out(judging.model, judging.plan, ranges, residual_db=judging.residual_db)
        note_layouts(made.model, self.layouts)
        return made

    def finished(self, waiting: Waiting, progress: Progress) -> CarriedOut:
        """The one that waits with its biases corrected, where the result's are to be."""
        correction = self._judging.correction
        return waiting.taken() if correction is None else with_biases(waiting.taken(), correction, progress)

    def energies(self, made: CarriedOut, advance: Advance) -> dict[str, NDArray[np.float64]]:
        """Energies [2, samples] of each output that can be compared, float and noise."""
        assert self._held is not None
        return {name: norms**2 for name, norms in self._held.noise(made.model, advance).norms().items()}
