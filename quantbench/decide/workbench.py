"""Workbench: one float model with its images and histograms, on which many INT8 variants are made and measured.

What all of them share is done once: images are decoded, float outputs computed and tensors counted a single time.
"""

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.find_ranges import Layouts, find_ranges
from quantbench.calibration.ort_outputs import Feed, runner, static_batch
from quantbench.calibration.ranges import Ranges
from quantbench.core.quantize import BIAS_IMAGES, for_onnxruntime
from quantbench.data.sources import at_most, feeds, labelled
from quantbench.decide.floats import FloatNetwork, options_of, scaled
from quantbench.evaluate.evaluator import Run
from quantbench.evaluate.outputs import compare_outputs, measures_of
from quantbench.evaluate.task import OutputFacts, facts_of
from quantbench.folding.options import FoldOptions
from quantbench.images.truth import Label
from quantbench.ort import create_session
from quantbench.predict.versions import PredictedFor
from quantbench.progress import Progress
from quantbench.ptq import stages
from quantbench.ptq.calibrator_choice import choose
from quantbench.ptq.prepare import Prepared, planned
from quantbench.qdq.adaptive_rounding import Rounding
from quantbench.qdq.carry_out import Correction, WeightWork, carry_out
from quantbench.qdq.layouts import layouts_for
from quantbench.qdq.options import PlacementOptions, WeightOptions
from quantbench.qdq.plan import Plan
from quantbench.records.evaluation import Measured
from quantbench.records.search import Settings
from quantbench.runnable import runnable_part

# Decoded images and float outputs are kept up to here; beyond, they are made again for each variant.
_KEPT_BYTES = 512_000_000


@dataclass
class Workbench:
    """See the module. `options`: the placement rules' switches, to which a variant's are added; `predicted`: what best
    placement speaks of. `best_placement`, `weights` and `scaling` of channels: as the run was asked for; a variant may
    have another placement, rounding and scaling."""

    run: Prepared
    options: PlacementOptions
    progress: Progress
    threads: int = 0
    max_bad: int = 0
    predicted: PredictedFor = field(default_factory=PredictedFor)
    best_placement: bool = False
    weights: WeightOptions = field(default_factory=WeightOptions)
    scaling: FoldOptions = field(default_factory=FoldOptions)
    _floats: dict[tuple[FoldOptions, frozenset[str]], FloatNetwork] = field(default_factory=dict)
    _plans: dict[tuple[bool, PlacementOptions], Plan] = field(default_factory=dict)
    _batches: list[tuple[Feed, Sequence[Label]]] = field(default_factory=list)
    _reference: list[list[NDArray[Any]]] = field(default_factory=list)
    _kept: bool = True

    @property
    def model(self) -> onnx.ModelProto:
        """The float model."""
        return self.run.model.proto

    @cached_property
    def runnable(self) -> onnx.ModelProto:
        """What of the float model onnxruntime can run."""
        return runnable_part(self.model)

    @property
    def images(self) -> int:
        """Images that variants are measured on."""
        return len(self.run.evaluation.source)

    @property
    def facts(self) -> OutputFacts:
        """What the float model's file says of its outputs."""
        return facts_of(self.model)

    def plan(self, settings: Settings) -> Plan:
        """What the rules, or the search for the best placement, decide with the variant's nodes kept in float."""
        options = self.options
        patterns = tuple(glob.escape(name) for name in settings.keep_float)
        options = replace(
            options, keep_float=options.keep_float + patterns, residual=options.residual and not settings.residual_float
        )
        if (settings.best_placement, options) not in self._plans:
            found = planned(self.run.model.view, options, self.predicted, best=settings.best_placement)
            self._plans[settings.best_placement, options] = found
        return self._plans[settings.best_placement, options]

    def ranges(self, calibrator: str, plan: Plan | None = None, network: FloatNetwork | None = None) -> Ranges:
        """Ranges of the tensors of `plan` (None: that of the run), and of all counted before, by a threshold method, in
        `network` (None: the model as it is); images are counted on the first call, and again where a plan quantizes
        tensors that none before it did."""
        plan, network = plan or self.run.plan, network or self.network(Settings(calibrator))
        return self._ranges(calibrator, network, self.layouts(plan, network))

    def layouts(self, plan: Plan, network: FloatNetwork, *, corrected: bool = True) -> Layouts:
        """How the integers of the tensors of `plan` lie where they run; `corrected`: images correct biases, and so tell
        least values. Counts what is not counted."""
        network.count(self.run, plan, self.max_bad, self.threads, self.progress)
        return layouts_for(network.model, plan, network.histograms, self._correction() if corrected else None)

    def _ranges(self, calibrator: str, network: FloatNetwork, layouts: Layouts) -> Ranges:
        choice = choose(calibrator)
        return find_ranges(network.histograms, choice.method, choice.threshold, layouts)

    def network(self, settings: Settings, scaling: FoldOptions | None = None) -> FloatNetwork:
        """The float network that the variant is made of; with `scaling` by these options in place of its own."""
        options = scaling or options_of(equalize=settings.equalize, smooth=settings.smooth)
        if not options.asked:
            return self._plain()
        plan = self.plan(settings)
        key = options, frozenset(site.node for site in plan.weights)
        if key not in self._floats:
            run = self.run
            given = stages.Folding(
                run.model, plan, run.calibration, run.batch, options, choose(settings.calibrator),
                settings.bias_correction, self.options.residual_db, run.place, self.max_bad, self.threads,
                self.progress,
            )  # fmt: skip
            # The model as it is, and one other: each is a copy of the weights.
            self._floats = {known: found for known, found in self._floats.items() if not known[0].asked}
            found = scaled(given)
            self._floats[key] = found if found.scaled_by else self._plain()
        return self._floats[key]

    def _plain(self) -> FloatNetwork:
        return self._floats.setdefault((FoldOptions(), frozenset()), FloatNetwork(self.model))

    def quantized(self, settings: Settings, scaling: FoldOptions | None = None) -> onnx.ModelProto:
        """The Q/DQ model of a variant: that of `quantbench ptq` with its options, to the bit; `scaling` as in
        `network`."""
        few = self._correction()
        correction = few if settings.bias_correction else None
        rounding = Rounding(few.feeds, few.images, self.threads) if settings.adaptive else None
        plan, network = self.plan(settings), self.network(settings, scaling)
        layouts = self.layouts(plan, network, corrected=settings.bias_correction)
        ranges = self._ranges(settings.calibrator, network, layouts)
        made = carry_out(
            network.model, plan, ranges, correction, weights=WeightWork(self.weights.scales, rounding),
            residual_db=self.options.residual_db,
        )  # fmt: skip
        return made.model

    def _correction(self) -> Correction:
        few = at_most(self.run.calibration.source, BIAS_IMAGES)
        name, batch = self.run.model.input_name, self.run.batch

        def opened() -> Iterable[Feed]:
            return feeds(few, name, batch, max_bad=self.max_bad)

        return Correction(opened, len(few), self.threads, self.weights.bias_sweeps)

    def batches(self) -> Iterator[tuple[Feed, Sequence[Label]]]:
        """Images to measure on, with labels; decoded once where they fit."""
        if self._batches and self._kept:
            yield from self._batches
            return
        size = 0
        found = labelled(self.run.evaluation.source, self.run.model.input_name, self.run.batch, max_bad=self.max_bad)
        for batch in found:
            size += sum(np.asarray(array).nbytes for array in batch[0].values())
            self._kept = self._kept and size <= _KEPT_BYTES
            if self._kept:
                self._batches.append(batch)
            yield batch

    def reference(self) -> Run:
        """The float model, whose outputs are kept from its first pass over `batches` where they fit."""
        known = self._reference
        if known:
            stored = iter(known)
            return lambda feed: next(stored)
        run = runner(create_session(self.runnable, threads=self.threads), static_batch(self.model))
        size = [0]

        def remember(feed: Feed) -> list[NDArray[Any]]:
            outputs = [np.asarray(array) for array in run(feed)]
            size[0] += sum(array.nbytes for array in outputs)
            if size[0] <= _KEPT_BYTES:
                known.append(outputs)
            elif known:
                known.clear()
                size[0] = 2 * _KEPT_BYTES
            return outputs

        return remember

    def output_names(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(value.name for value in self.runnable.graph.output)

    def measure(self, quantized: onnx.ModelProto) -> dict[str, Measured]:
        """Figures of a Q/DQ model against float, by the names of `evaluate.outputs.measures_of`."""
        session = create_session(for_onnxruntime(runnable_part(quantized)), threads=self.threads)
        evaluation = compare_outputs(
            self.reference(),
            runner(session, static_batch(self.model)),
            self.batches(),
            facts=self.facts,
            outputs=self.output_names(),
        )
        return measures_of(evaluation)
