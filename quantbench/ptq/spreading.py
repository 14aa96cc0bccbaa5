"""Who counts the calibration data of a run, where that is not one process."""

from dataclasses import replace

from quantbench.cores import decoders_of, usable_cores
from quantbench.data.sources import whole_of
from quantbench.data.spooled import Spooled
from quantbench.engines.shapes import shapes_by_input
from quantbench.progress import Progress
from quantbench.provenance import chosen_versions
from quantbench.ptq import stages
from quantbench.ptq.piece_job import CountJob, absolute, shapes_of
from quantbench.ptq.prepare import Prepared
from quantbench.ptq.ranks import Group, group
from quantbench.ptq.request import PtqRequest
from quantbench.ptq.spread import Spreading
from quantbench.qdq.tensors import calibrated_tensors


def counting_of(request: PtqRequest, run: Prepared) -> stages.Counting:
    """What the histograms of `run` are counted from."""
    return stages.Counting(
        run.model, calibrated_tensors(run.model.view, run.plan), run.calibration, run.batch, run.plan.tensors,
        run.choice.feeder, run.place, request.data.max_bad, request.threads,
    )  # fmt: skip


def spreading(
    request: PtqRequest, run: Prepared, counting: stages.Counting, progress: Progress, *, refresh: bool
) -> Spreading | None:
    """Who counts, where that is not this process alone."""
    own = group()
    if own is None and not request.spread.asked:
        return None
    if counting.feeder:
        progress.note(f"Calibrator {run.choice.method} brings its own data, which one process counts")
        return None
    return spread_over(request, run, counting, own, refresh=refresh)


def spread_over(
    request: PtqRequest, run: Prepared, counting: stages.Counting, own: Group | None, *, refresh: bool
) -> Spreading:
    """How the pieces of `run` are counted by a group, by processes or by Ray: a share of the cores each."""
    several = own.here if own is not None else max(request.spread.processes, 1)
    share = max(usable_cores() // several, 1)
    threads = request.threads or (1 if request.spread.ray and own is None else share)
    data = absolute(request.data)
    if isinstance(spool := whole_of(run.calibration.source), Spooled):
        # A program's items are written down once; to run it again might give others.
        data = replace(data, calib_dir=spool.path)
    job = CountJob(
        run.model.path.absolute(), run.model.sha256, counting.tensors, run.model.input_name, data,
        run.calibration.sha256, shapes_of(shapes_by_input(request.compile.options.profiles)), run.batch, threads,
        decoders_of(several), request.device,
        tuple(chosen_versions(*stages.NUMBERS).items()),
    )  # fmt: skip
    return Spreading(request.spread if own is None else replace(request.spread, ray=""), own, job, counting.needed,
                     refresh)  # fmt: skip
