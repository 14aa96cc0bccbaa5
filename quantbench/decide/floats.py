"""The float networks that variants are made of, the model as it is or with scaled channels, and what was counted."""

from dataclasses import dataclass, field

import onnx

from quantbench.calibration.collect import collect, usable
from quantbench.calibration.histogram import Histogram
from quantbench.core.fold_by_outputs import fold_by_outputs
from quantbench.data.sources import feeds
from quantbench.folding.options import FoldOptions
from quantbench.progress import Progress
from quantbench.ptq import stages
from quantbench.ptq.prepare import Prepared
from quantbench.qdq.plan import Plan
from quantbench.qdq.tensors import calibrated_tensors
from quantbench.records.folded import Method


@dataclass
class FloatNetwork:
    """`model`: the same nodes and tensors whichever it is. `gain_db`: what scaling takes off the noise of a layer's
    output, the mean over all quantized layers, None where nothing was scaled; `scaled_by`: the methods that did."""

    model: onnx.ModelProto
    gain_db: float | None = None
    scaled_by: tuple[Method, ...] = ()
    histograms: dict[str, Histogram] = field(default_factory=dict)
    _counted: set[str] = field(default_factory=set)

    def count(self, run: Prepared, plan: Plan, max_bad: int, threads: int, progress: Progress) -> None:
        """Count the tensors of `plan` over the calibration images, those that are not counted yet."""
        tensors = [name for name in calibrated_tensors(run.model.view, plan) if name not in self._counted]
        if not tensors:
            return
        source = run.calibration.source
        with progress.task("Calibration", len(source)) as advance:
            opened = feeds(source, run.model.input_name, run.batch, max_bad=max_bad)
            counted = collect(self.model, opened, tensors, threads=threads, begin=run.place.begin, on_batch=advance)
        found, _ = usable(counted, [name for name in plan.tensors if name in counted])
        self.histograms |= found
        self._counted |= set(tensors)


def scaled(given: stages.Folding) -> FloatNetwork:
    """The model of `given` with the methods that its options put on, wherever they can be; those that are `auto` where
    the outputs are nearer for it."""
    model, folded = fold_by_outputs(stages.foldable(given), given.options)
    if not folded.taken:
        return FloatNetwork(given.model.proto)
    layers = {site.node for site in given.plan.weights}
    gains = sum(site.gain_db * len(site.readers) for site in folded.sites)
    return FloatNetwork(model, gains / max(len(layers), 1), folded.taken)


def options_of(*, equalize: bool, smooth: bool) -> FoldOptions:
    """Methods that a variant has, and no other."""
    return FoldOptions("on" if equalize else "off", "on" if smooth else "off")
