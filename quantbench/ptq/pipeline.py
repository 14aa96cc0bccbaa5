"""`quantbench ptq`: its stages, each a value, and the record that is put together from theirs."""

import re
from dataclasses import replace
from pathlib import Path

from quantbench.calibration.ranges import Ranges
from quantbench.calibration.store import load_histograms
from quantbench.compilation.builds import Begun
from quantbench.compilation.stage import Compiling, begin, begin_float, compile_in
from quantbench.core.quantize import ORT_MODEL, QDQ_MODEL
from quantbench.errors import QuantbenchError
from quantbench.images.source import file_sha256
from quantbench.latency.facts import timed_prediction
from quantbench.progress import Progress
from quantbench.provenance import provenance
from quantbench.ptq import left_alone, stages
from quantbench.ptq.cache_policy import CACHE, SIDECAR, Owner, Policy, takes_cache
from quantbench.ptq.calibrate import HISTOGRAMS
from quantbench.ptq.calibrate_on import ON_CPU
from quantbench.ptq.measure import Measuring
from quantbench.ptq.prepare import Prepared, prepare
from quantbench.ptq.range_warnings import range_warnings
from quantbench.ptq.request import PtqRequest
from quantbench.ptq.resolve import display_name
from quantbench.ptq.scaled import scaled
from quantbench.ptq.spreading import counting_of, spreading
from quantbench.qdq.facts import placement_facts, range_facts
from quantbench.qdq.guard import guarded
from quantbench.qdq.rules import loops
from quantbench.records.evaluation import Evaluation
from quantbench.records.facts import CalibrationFacts, RangeFacts
from quantbench.records.judged import Judged
from quantbench.records.rounding import ROUNDING, RoundingFacts
from quantbench.records.run import RUN, PtqRun
from quantbench.run_folder import Identity, RunFolder
from quantbench.runnable import told

_SHOWN_WARNINGS = 3
# Below this many calibration images a warning is due: maxima of activations still grow by tens of percent.
_FEW = 16


def default_folder(request: PtqRequest) -> Path:
    """runs/MODEL-CALIBRATOR, another for each calibrator: percentile-99.9, cal-A of cal.py:A."""
    method = re.sub(r"[^\w.+-]+", "-", request.calibrator.replace(".py:", "-")).strip("-.")
    return Path("runs") / f"{display_name(request.model.name)}-{method}"


def run_ptq(
    request: PtqRequest, progress: Progress, *, overwrite: bool = False, cache: Policy = "check"
) -> tuple[Path, PtqRun]:
    """Do or finish the run; its folder and what run.json holds. Raises QuantbenchError."""
    run = prepare(request)
    path = request.out or default_folder(request)
    owner = Owner(run.model.sha256, run.calibration.sha256, run.choice.method)
    _introduce(run, progress)
    others = request.evaluation.dir is not None or request.evaluation.dataset is not None
    if others and not run.evaluation.is_checked(run.batch, request.data.max_bad):
        with progress.task("Checking the evaluation images", run.evaluated_on.images) as advance:
            run.evaluation.check(run.batch, request.data.max_bad, advance)
    identity = Identity("ptq", request.model.name, run.model.sha256)
    with RunFolder(path).held(identity, overwrite=overwrite) as folder, Begun(request.compile.backend) as begun:
        begin_float(begun, folder, run.model.proto, tuple(run.shapes.items()), request.compile, run.compiler)
        record = _stages(request, run, folder, owner, progress, cache, begun)
        record.save(path / RUN)
    return path, record


def _introduce(run: Prepared, progress: Progress) -> None:
    taken = ", ".join(f"{entry.name} {entry.describe()}" for entry in run.model.inputs)
    samples = "images" if len(run.model.inputs[0].shape or ()) == 4 and len(run.model.inputs) == 1 else "samples"
    places = run.placement_facts
    progress.note(
        f"{run.model_facts.path}: {'inputs' if len(run.model.inputs) > 1 else 'input'} {taken}, "
        f"{len(places.quantized)} of {len(places.weighted)} weighted layers get Q/DQ"
    )
    if cut := told(run.model.proto):
        progress.note(cut)
    inside = [name for name, why in places.kept_float.items() if why.startswith(f"{loops.RULE}: ")]
    if inside:
        count = f", and {len(inside) - 1} more" if len(inside) > 1 else ""
        progress.note(f"{inside[0]}{count} stay float, in loops and branches; quantbench explain-node says why")
    progress.note(f"Preprocessing: {run.preprocess_facts.words} ({run.preprocess_facts.origin})")
    on = "" if run.place == ON_CPU else f", on {run.place.name}"
    progress.note(f"Calibration: {run.choice.method} on {run.data_facts.images} {samples}, {run.data_facts.what}{on}")
    if run.data_facts.images < _FEW:
        progress.note(
            f"warning: {run.data_facts.images} calibration samples see few of the values that come later; 100 to 500 "
            f"that differ as the real ones do suffice"
        )
    progress.note(f"Evaluation: {run.evaluated_on.images} {samples}, {run.evaluated_on.what}")


def _stages(
    request: PtqRequest, run: Prepared, folder: RunFolder, owner: Owner, progress: Progress, cache: Policy, begun: Begun
) -> PtqRun:
    given = takes_cache(folder.path, owner, cache)
    plain = run.model
    if given and any(map(request.fold.is_on, request.fold.asked)):
        progress.note("Ranges of a cache are those of the network as it is, so that no channels are scaled")
    run, folded = (run, None) if given else scaled(request, run, folder, progress)
    if given:
        progress.note(f"Ranges from {folder.path / CACHE}, as --reuse-cache says")
        path = folder.path / CACHE
        folder.run(stages.taking_cache(stages.TakingCache(file_sha256(path), path)), keep=(CACHE, SIDECAR))
    else:
        owner = replace(owner, folded=run.model is not plain)
        try:
            _calibrate(request, run, folder, owner, progress, refresh=cache == "refresh")
        except QuantbenchError:
            left_alone.forget(folder.state)  # it took no time, so that a folder made for bad data need not stay
            raise
    ranges = stages.read_ranges(folder.path)
    run = _without_poor_skips(run, ranges, request.placement.residual_db, progress)
    judged = Judged.load(folder.path / stages.JUDGED) if run.choice.is_auto and not given else None
    if judged is not None:
        progress.note(f"Thresholds: {judged.in_words()}")
    # Where TensorRT places INT8 itself, it takes any range.
    warnings = range_warnings(ranges, None if request.compile.implicit else run.plan.tensors)
    for warning in warnings[:_SHOWN_WARNINGS]:
        progress.note(f"warning: {warning}")
    if len(warnings) > _SHOWN_WARNINGS:
        progress.note(f"warning: and {len(warnings) - _SHOWN_WARNINGS} more such tensors; see report.md")
    quantizing = stages.Quantizing(
        run.model, run.plan, ranges, run.calibration if request.bias_correction or request.weights.adaptive else None,
        request.bias_correction, request.weights, run.batch, request.placement.for_onnxruntime, request.data.max_bad,
        request.threads, folder.state, progress,
    )  # fmt: skip
    quantized = folder.run(stages.quantizing(quantizing))
    rounding = RoundingFacts.load(folder.path / ROUNDING) if request.weights.adaptive else None
    if rounding is not None:
        progress.note(f"Adaptive rounding: {rounding.in_words()}")
    qdq = stages.output_of(quantized, QDQ_MODEL, folder.path)
    places = run.placement_facts
    implicit = request.compile.implicit
    compiling = Compiling(
        qdq, plain.sha256, places.quantized, places.weighted, tuple(run.shapes.items()),
        ranges if implicit else None, request.compile, "quantize", run.model.proto if implicit else plain.proto,
    )  # fmt: skip
    measuring = Measuring(
        plain, run.model, places.quantized, qdq, stages.output_of(quantized, ORT_MODEL, folder.path), run.evaluation,
        run.evaluated_on.labels_sha256, run.calibration, run.batch, request.threads, request.latency,
        request.data.max_bad, progress,
    )  # fmt: skip
    running = begin(begun, folder, compiling, run.compiler)
    if running is None:
        compiled = compile_in(folder, compiling, run.compiler, progress)
        folder.run(stages.evaluating(measuring))
    else:
        folder.run(stages.evaluating(replace(measuring, quiet=lambda: running.settle(progress))))
        compiled = compile_in(folder, compiling, run.compiler, progress, running)
    method = f"cache {CACHE}" if given else run.choice.method
    return PtqRun(
        provenance=provenance(),
        recipe=request.recipe,
        model=run.model_facts,
        data=run.data_facts,
        preprocess=run.preprocess_facts,
        calibration=CalibrationFacts(
            method=method,
            source=CACHE if given else "images",
            device="" if given else run.place.kind,
            bias_correction=request.bias_correction,
            warnings=tuple(warnings),
            judged=judged,
            ranges=() if given else _range_facts(run, ranges, folder),
            weight_scales=request.weights.scales,
            rounding=rounding,
            folded=folded,
        ),
        placement=run.placement_facts,
        evaluated_on=run.evaluated_on,
        evaluation=Evaluation.load(folder.path / stages.EVALUATION),
        prediction=timed_prediction(folder.path / QDQ_MODEL, request.predicted),
        compiled=compiled,
        stages=folder.records(),
    )


def _range_facts(run: Prepared, ranges: Ranges, folder: RunFolder) -> tuple[RangeFacts, ...]:
    """Nothing where a calibrator of the user's gave ranges without counts."""
    try:
        histograms, _ = load_histograms(folder.state / HISTOGRAMS)
    except QuantbenchError:
        return ()
    return range_facts(run.plan, ranges, histograms)


def _without_poor_skips(run: Prepared, ranges: Ranges, least_db: float, progress: Progress) -> Prepared:
    """`run` with the plan that the ranges allow."""
    plan, left = guarded(run.plan, ranges, least_db)
    if not left:
        return run
    worst = min(left, key=lambda name: left[name])
    count = "1 skip connection stays" if len(left) == 1 else f"{len(left)} skip connections stay"
    progress.note(f"{count} float: outliers leave most values {left[worst]:.1f} dB above the noise at {worst}")
    return replace(run, plan=plan, placement_facts=placement_facts(run.model.view, plan))


def _calibrate(
    request: PtqRequest, run: Prepared, folder: RunFolder, owner: Owner, progress: Progress, *, refresh: bool
) -> None:
    counting = counting_of(request, run)
    candidates = None
    placement = request.placement
    if run.choice.is_auto or placement.for_onnxruntime:
        candidates = stages.Candidates(
            run.plan, request.bias_correction, placement.residual_db, placement.for_onnxruntime
        )
    how = spreading(request, run, counting, progress, refresh=refresh)
    inputs = stages.Calibrating(counting, run.choice, candidates, owner, folder.state, progress, how)
    if refresh:  # measured anew, and not thresholds of what was counted before
        (folder.state / HISTOGRAMS).unlink(missing_ok=True)
    folder.run(stages.calibrating(inputs), again=refresh)
