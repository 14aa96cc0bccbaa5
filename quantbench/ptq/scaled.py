"""The network whose channels equalization and SmoothQuant scaled, of a run that asks for them: made by the process that
has the run folder, taken from there by the others that torchrun started."""

import time
from dataclasses import replace
from pathlib import Path

from quantbench.graph.load import load_model, model_sha256
from quantbench.progress import Progress
from quantbench.ptq import left_alone, stages
from quantbench.ptq.cache_policy import CACHE
from quantbench.ptq.prepare import FloatModel, Prepared
from quantbench.ptq.request import PtqRequest
from quantbench.records.folded import Folded
from quantbench.run_folder import RunFolder
from quantbench.runnable import view_to_quantize
from quantbench.stage import Stage

# Seconds between two looks, and after which nobody waits any more for the first to take the folder, and to decide.
_LOOK, _COMES, _DECIDES = 0.2, 600.0, 3600.0


def folding_of(request: PtqRequest, run: Prepared, progress: Progress) -> Stage[stages.Folding]:
    """The stage that scales channels of the model of `run`."""
    return stages.folding(stages.Folding(
        run.model, run.plan, run.calibration, run.batch, request.fold, run.choice, request.bias_correction,
        request.placement.residual_db, run.place, request.data.max_bad, request.threads, progress,
    ))  # fmt: skip


def scaled(request: PtqRequest, run: Prepared, folder: RunFolder, progress: Progress) -> tuple[Prepared, Folded | None]:
    """`run` with the model that equalization and SmoothQuant made of its own, and what they did."""
    if not request.fold.asked:
        folder.forget(stages.FOLD)
        return run, None
    stage = folding_of(request, run, progress)
    found = left_alone.remembered(folder.state, stage.key)
    start = time.perf_counter()
    try:
        if found is None:
            seconds = folder.run(stage).provenance.seconds
    except stages.LeftAlone as left:
        found = left.folded.model_copy(update={"seconds": round(time.perf_counter() - start, 1)})
        left_alone.remember(folder.state, stage.key, found)
    if found is not None:
        folder.forget(stages.FOLD)
        progress.note(_in_words(found))
        return run, found
    folded = Folded.load(folder.path / stages.FOLDED).model_copy(update={"seconds": round(seconds, 1)})
    progress.note(_in_words(folded))
    progress.note(f"{CACHE} will fit {stages.FOLDED_MODEL}; --equalize off --smooth off: the network as it is")
    return with_scaled(run, folder.path), folded


def with_scaled(run: Prepared, folder: Path) -> Prepared:
    """`run` with the model of scaled channels in `folder`. Raises QuantbenchError where it cannot be read."""
    path = folder / stages.FOLDED_MODEL
    proto = load_model(path)
    return replace(run, model=FloatModel(path, model_sha256(path), proto, view_to_quantize(proto), run.model.inputs))


class Decision:
    """What the first process of torchrun's decides of the channels, as the others read it in the run folder."""

    def __init__(self, stage: Stage[stages.Folding], folder: RunFolder) -> None:
        self._stage, self._key, self._folder = stage, stage.key, folder
        self._known: bool | None = None

    def scaled(self) -> bool | None:
        """Whether channels are scaled, and their model lies in the folder; None: not decided yet."""
        if self._known is None:
            record = self._folder.records().get(stages.FOLD)
            if record is not None and record.key == self._key and self._folder.done(self._stage):
                self._known = True
            elif left_alone.remembered(self._folder.state, self._key) is not None:
                self._known = False
        return self._known

    def awaited(self) -> bool:
        """`scaled`, once it is decided; False where the first is gone, does not come, or is very long at it."""
        began, seen = time.monotonic(), False
        while self.scaled() is None:
            held, waited = self._folder.is_held(), time.monotonic() - began
            if waited > (_DECIDES if held else _COMES) or (seen and not held):
                break
            seen = held
            time.sleep(_LOOK)
        return self.scaled() is True


def _in_words(folded: Folded) -> str:
    return f"{folded.in_words()} ({folded.seconds:.1f} s)"
