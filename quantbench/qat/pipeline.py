"""`quantbench qat-export`: from a torch checkpoint to a calibrated, perhaps fine-tuned Q/DQ model and its report."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from quantbench.cache.strip import strip_qdq
from quantbench.calibration.histogram import Shares
from quantbench.calibration.ranges import Ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.compilation.request import check_request, check_shapes
from quantbench.compilation.stage import Compiling, compile_in
from quantbench.data.sources import Images
from quantbench.errors import QuantbenchError
from quantbench.latency.device_file import find_device
from quantbench.latency.facts import timed_prediction
from quantbench.progress import Progress
from quantbench.provenance import provenance
from quantbench.qat import distributed, stages, yolo
from quantbench.qat.finetune import training_sha256
from quantbench.qat.foreign import foreign_quantizers
from quantbench.qat.insert import plan_for
from quantbench.qat.models import TorchModel, load_model
from quantbench.qat.report import write_reports
from quantbench.qat.request import QatRequest
from quantbench.qat.sources import calibration_source
from quantbench.qat.trace import trace
from quantbench.qdq.facts import placement_facts
from quantbench.qdq.guard import guarded
from quantbench.qdq.plan import Plan
from quantbench.records.compiled import Compiled, Refused
from quantbench.records.facts import CalibrationFacts, DataFacts, ModelFacts, PreprocessFacts, RangeFacts
from quantbench.records.qat import ExportFacts, TrainingFacts
from quantbench.records.run import RUN, QatRun
from quantbench.run_folder import Identity, RunFolder
from quantbench.stage import FileRef


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The float model, traced, and the images: all that is known before a stage runs. `plan` is None for a checkpoint
    that was quantized by `foreign`."""

    job: stages.Job
    model: stages.ModelId
    plan: Plan | None
    foreign: str
    images: Images
    what: str
    training_sha256: str


def run_qat_export(request: QatRequest, progress: Progress, *, overwrite: bool = False) -> tuple[Path, QatRun | None]:
    """Do or finish the run; returns its folder and what run.json holds, None in all processes of a group but the first.

    Raises QuantbenchError for faults of the input.
    """
    started = time.perf_counter()
    wanted = request.model
    if request.predicted.device:
        find_device(request.predicted.device)  # unknown ones are an error now, not after training
    threshold_method(request.calibration.method)  # and so are these, before the first image
    if not wanted.name:
        raise QuantbenchError("no model: name a checkpoint (yolov8.pt) or a torchvision classifier")
    if request.compile.implicit:
        raise QuantbenchError("qat-export trains and exports Q/DQ; take 'quantization: implicit' out of the recipe")
    if request.placement.plugin_int8 or request.placement.plugin_tensors:
        raise QuantbenchError(
            "qat-export leaves plugins in float; take placement.plugin_precision out of the recipe, or quantize the "
            "float model's ONNX file with 'quantbench ptq --plugin-precision'"
        )
    check_request(request.compile)  # a wrong option is refused before hours of training
    model = load_model(
        wanted.name, weights=wanted.weights, architecture=wanted.architecture, size=wanted.size,
        preprocess=wanted.preprocess, trust=wanted.trust,
    )  # fmt: skip
    batch = -1 if request.export.dynamic_batch else model.example.shape[0]
    check_shapes(request.compile, {model.input_name: (batch, *model.example.shape[1:])})
    named = stages.ModelId.of(wanted, model)
    path = request.out or Path("runs") / f"{model.name}-qat"
    with distributed.process_group():
        folder = RunFolder(path)
        identity = Identity("qat-export", wanted.name, named.weights)
        with folder.held(identity, overwrite=overwrite) if distributed.is_first() else nullcontext():
            record = _run(request, _prepare(request, progress, model, named), folder, started)
    return path, record


def _prepare(request: QatRequest, progress: Progress, model: TorchModel, named: stages.ModelId) -> _Prepared:
    calibration, training = request.calibration, request.training
    source, what = calibration_source(
        model, calibration.folder, calibration.dataset, training.data if training else None, calibration.max_images
    )
    device = distributed.device(request.device)
    module = model.module.to(device)
    trained_on = training_sha256(model, training.data) if training else ""
    foreign = foreign_quantizers(module)
    with yolo.exporting(module) if model.kind == "yolo" else nullcontext():
        traced = trace(module, model.example.to(device))
    job = stages.Job(model, traced, source, device, progress)
    if foreign:
        progress.note(f"The model is quantized already by {foreign}: it is exported as it is")
        return _Prepared(job, named, None, foreign, Images.of(source), what, trained_on)
    plan = plan_for(
        traced, request.placement, model.float_modules, best=request.predicted if request.best_placement else None
    )
    if not plan.weights:
        raise QuantbenchError("no layer can be quantized: every Conv, ConvTranspose and Linear is kept float")
    return _Prepared(job, named, plan, foreign, Images.of(source), what, trained_on)


def _run(request: QatRequest, run: _Prepared, folder: RunFolder, started: float) -> QatRun | None:
    job, model = run.job, run.job.model
    quantized = None if run.plan is None else _quantize(request, run, run.plan, folder)
    if not distributed.is_first():
        return None
    exporting = stages.Exporting(run.model, model.name, quantized, run.images, request.export, job)
    written = folder.run(stages.exporting(exporting))
    facts = ExportFacts.load(folder.path / stages.EXPORT)
    delivered = next(output for output in written.outputs if output.path == facts.exported.file)
    record = QatRun(
        provenance=provenance(time.perf_counter() - started),
        recipe=request.recipe,
        model=ModelFacts(
            name=model.name, path=str(request.model.file), sha256=run.model.weights, kind=model.kind,
            parameters=sum(p.numel() for p in model.module.parameters()),
        ),
        data=DataFacts(what=run.what, images=len(job.source), sha256=run.images.sha256),
        preprocess=PreprocessFacts(
            settings=model.preprocess.to_json(), words=model.preprocess.describe(), origin=model.preprocess_origin
        ),
        device=str(job.device), quantized_by=run.foreign,
        calibration=CalibrationFacts(method=request.calibration.method) if quantized else None,
        placement=placement_facts(job.traced.view, quantized.plan) if quantized else None,
        ranges=_range_facts(stages.read_ranges(folder.path / stages.RANGES)) if quantized else (),
        training=TrainingFacts.load(folder.path / stages.TRAINING) if stages.TRAIN in folder.records() else None,
        exported=facts.exported, against_torch=facts.against_torch, against_float=facts.against_float,
        compiled=_compile(request, run, facts, FileRef(delivered.sha256, folder.path / delivered.path), folder),
        prediction=timed_prediction(folder.path / facts.exported.file, request.predicted),
        stages=folder.records(),
    )  # fmt: skip
    record.save(folder.path / RUN)
    write_reports(folder.path, record)
    return record


def _quantize(request: QatRequest, run: _Prepared, plan: Plan, folder: RunFolder) -> stages.Quantized:
    """Ranges, and weights that fit them, where training is wanted; each made only once."""
    job, wanted, training = run.job, request.calibration, request.training
    calibrating = stages.Calibrating(
        run.model, plan, run.images, wanted.batch_size, wanted.method, job.device.type, wanted.max_bad, job
    )
    stages.run_together(folder, stages.calibrating(calibrating))
    found = stages.read_ranges(folder.path / stages.CALIBRATED) if distributed.is_first() else Ranges({})
    ranges = distributed.from_first(found)
    plan, poor = guarded(plan, ranges, request.placement.residual_db)
    if poor:
        job.progress.note(f"{len(poor)} skip connections stay float: outliers leave most of their values to the noise")
    if training is None:
        if distributed.is_first():
            folder.forget(stages.TRAIN)
        return stages.Quantized(plan, ranges, False, None)
    inputs = stages.Training(
        run.model, plan, ranges, run.training_sha256, training.options, job.device.type, training.data,
        folder.state / "training", training.resume, job,
    )  # fmt: skip
    stages.run_together(folder, stages.training(inputs))
    trained = None
    if distributed.is_first():
        output = next(o for o in folder.records()[stages.TRAIN].outputs if o.path == stages.TRAINED)
        trained = FileRef(output.sha256, folder.path / output.path)
    return stages.Quantized(plan, ranges, training.options.learned_scales, trained)


def _compile(
    request: QatRequest, run: _Prepared, facts: ExportFacts, delivered: FileRef, folder: RunFolder
) -> Compiled | Refused | None:
    model, exported = run.job.model, facts.exported
    compiling = Compiling(
        delivered, "without Q/DQ", exported.quantized, exported.weighted,
        ((model.input_name, (-1, *model.example.shape[1:])),), None, request.compile, stages.EXPORTING,
        _without_qdq(delivered.path),
    )  # fmt: skip
    return compile_in(folder, compiling, check_request(request.compile), run.job.progress)


def _without_qdq(path: Path) -> onnx.ModelProto | None:
    """The float model to compare with; None where another tool's Q/DQ cannot be taken out."""
    try:
        return strip_qdq(onnx.load(str(path))).model
    except QuantbenchError:
        return None


def _range_facts(ranges: Ranges) -> tuple[RangeFacts, ...]:
    return tuple(
        RangeFacts(
            tensor=name, amax=r.amax, observed_max=r.histogram["observed_max"],
            share_clipped=r.histogram["share_clipped"], share_zero=r.histogram.get("share_zero"),
            share_lost=_lost(r.histogram),
        )
        for name, r in ranges.tensors.items()
    )  # fmt: skip


def _lost(histogram: Mapping[str, Any]) -> float | None:
    if "share_zero" not in histogram:  # an earlier version's
        return None
    return Shares(histogram["share_clipped"], histogram["share_zero"], histogram["share_first_bin"]).lost
