"""The share of a process that torchrun started and that is not the first."""

from quantbench.progress import Progress
from quantbench.ptq import stages
from quantbench.ptq.pipeline import default_folder
from quantbench.ptq.prepare import prepare
from quantbench.ptq.ranks import Group
from quantbench.ptq.request import PtqRequest
from quantbench.ptq.spread import count_for_first
from quantbench.ptq.spreading import counting_of, spread_over
from quantbench.run_folder import Identity, RunFolder


def count_share(request: PtqRequest, own: Group, progress: Progress, *, overwrite: bool, refresh: bool) -> None:
    """What a process of torchrun's does that is not the first: count its share of the pieces into the run folder,
    where the first adds them up. Raises QuantbenchError as `run_ptq`."""
    run = prepare(request)
    counting = counting_of(request, run)
    # Where the first may scale channels the network as it is is counted, which it mostly stays.
    if counting.feeder or any(map(request.fold.is_on, request.fold.asked)):
        return
    folder = RunFolder(request.out or default_folder(request))
    folder.refuse(Identity("ptq", request.model.name, run.model.sha256), overwrite=overwrite)
    how = spread_over(request, run, counting, own, refresh=refresh)
    key = stages.histograms_key(counting)
    done, every = count_for_first(how, run.model.proto, run.calibration.source, folder.state, key)
    progress.note(f"Process {own.rank} of {own.world} counted {done} of {every} pieces")
