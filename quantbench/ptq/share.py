"""The share of a process that torchrun started and that is not the first."""

from collections.abc import Callable
from dataclasses import dataclass

from quantbench.progress import Progress
from quantbench.ptq import stages
from quantbench.ptq.pipeline import default_folder
from quantbench.ptq.prepare import Prepared, prepare
from quantbench.ptq.ranks import Group
from quantbench.ptq.request import PtqRequest
from quantbench.ptq.scaled import Decision, folding_of, with_scaled
from quantbench.ptq.spread import count_for_first
from quantbench.ptq.spreading import counting_of, spread_over
from quantbench.run_folder import Identity, RunFolder


def count_share(request: PtqRequest, own: Group, progress: Progress, *, overwrite: bool, refresh: bool) -> None:
    """What a process of torchrun's does that is not the first: count its share of the pieces into the run folder,
    where the first adds them up. Raises QuantbenchError as `run_ptq`.

    While the first looks whether to scale channels the network as it is is counted, which it mostly stays; else what
    was made of it.
    """
    run = prepare(request)
    if run.choice.feeder:
        return
    folder = RunFolder(request.out or default_folder(request))
    folder.refuse(Identity("ptq", request.model.name, run.model.sha256), overwrite=overwrite)
    share = _Share(request, own, folder, progress, refresh)
    if not request.fold.asked:
        share.count(run, lambda: False)
        return
    decision = Decision(folding_of(request, run, progress), folder)
    mostly_plain = not any(map(request.fold.is_on, request.fold.asked))
    if mostly_plain:
        share.count(run, lambda: decision.scaled() is True)
    if decision.awaited():
        share.count(with_scaled(run, folder.path), lambda: False)
    elif decision.scaled() is False and not mostly_plain:
        share.count(run, lambda: False)


@dataclass(frozen=True, slots=True)
class _Share:
    request: PtqRequest
    own: Group
    folder: RunFolder
    progress: Progress
    refresh: bool

    def count(self, run: Prepared, dropped: Callable[[], bool]) -> None:
        """Pieces of the calibration data through the model of `run`, until that is `dropped`."""
        counting = counting_of(self.request, run)
        how = spread_over(self.request, run, counting, self.own, refresh=self.refresh)
        key, source = stages.histograms_key(counting), run.calibration.source
        done, every = count_for_first(how, run.model.proto, source, self.folder.state, key, dropped)
        if not dropped():
            own = self.own
            self.progress.note(f"Process {own.rank} of {own.world} counted {done} of {every} pieces")
