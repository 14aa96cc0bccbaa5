"""`quantbench qat-export`: from a torch checkpoint to a calibrated, perhaps fine-tuned Q/DQ model and its report."""

import copy
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from quantbench.atomic import write_json
from quantbench.cache.strip import strip_qdq
from quantbench.calibration.ranges import Ranges
from quantbench.compilation.request import check_request, check_shapes
from quantbench.compilation.stage import Compiling, compile_in
from quantbench.data.sources import Images
from quantbench.errors import QuantbenchError
from quantbench.graph.load import model_sha256
from quantbench.graph.save import save_model
from quantbench.images.source import Source
from quantbench.latency.device_file import find_device
from quantbench.latency.facts import timed_prediction
from quantbench.progress import Progress
from quantbench.provenance import chosen_versions, provenance
from quantbench.qat import distributed, yolo
from quantbench.qat.checks import compare, concat_scales, quantized_nodes, run_onnx, run_torch
from quantbench.qat.finetune import FineTuning, finetune
from quantbench.qat.foreign import foreign_quantizers
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.models import TorchModel, load_model
from quantbench.qat.observe import apply_ranges, collect, ranges_of
from quantbench.qat.quantizer import Mode, set_mode
from quantbench.qat.report import write_reports
from quantbench.qat.request import QatRequest
from quantbench.qat.sources import calibration_source, first_images, tensor_batches
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import Trace, trace
from quantbench.qdq.facts import placement_facts
from quantbench.qdq.guard import guarded
from quantbench.records.compiled import Compiled, Refused
from quantbench.records.facts import CalibrationFacts, DataFacts, ModelFacts, PlacementFacts, PreprocessFacts
from quantbench.records.qat import Agreement, Exported, RangeFacts, TensorSignature, TrainingFacts
from quantbench.records.run import RUN, QatRun
from quantbench.run_folder import Identity, RunFolder
from quantbench.stage import UNKEYED, FileRef, Stage

_COMPARED = 4


@dataclass(frozen=True, slots=True)
class _Made:
    """What inserting, calibrating and training came to; nothing of it for a checkpoint that is quantized already."""

    calibration: CalibrationFacts | None = None
    placement: PlacementFacts | None = None
    ranges: Ranges | None = None
    training: TrainingFacts | None = None


@dataclass(frozen=True, slots=True)
class _Exporting:
    """What the exported file depends on; the module, trained by now, is `job`'s."""

    sha256: str
    request: QatRequest
    images: Images
    job: "_Job" = field(metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class _Job:
    """The module with its quantizers, and what is done to it."""

    model: TorchModel
    source: Source
    traced: Trace
    ranges: Ranges | None
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Delivered:
    """The exported model and what is known of it."""

    model: onnx.ModelProto
    exported: Exported
    against_torch: Agreement
    against_float: Agreement


def run_qat_export(request: QatRequest, progress: Progress, *, overwrite: bool = False) -> tuple[Path, QatRun | None]:
    """Do the whole run; returns its folder and what run.json holds, None in all processes of a group but the first.

    Raises QuantbenchError for faults of the input.
    """
    started = time.perf_counter()
    wanted = request.model
    if request.predicted.device:
        find_device(request.predicted.device)  # unknown ones are an error now, not after training
    if not wanted.name:
        raise QuantbenchError("no model: name a checkpoint (yolov8.pt) or a torchvision classifier")
    if request.compile.implicit:
        raise QuantbenchError("qat-export trains and exports Q/DQ; take 'quantization: implicit' out of the recipe")
    check_request(request.compile)  # a wrong option is refused before hours of training
    model = load_model(
        wanted.name, weights=wanted.weights, architecture=wanted.architecture, size=wanted.size,
        preprocess=wanted.preprocess, trust=wanted.trust,
    )  # fmt: skip
    batch = -1 if request.export.dynamic_batch else model.example.shape[0]
    check_shapes(request.compile, {model.input_name: (batch, *model.example.shape[1:])})
    hashed = model_sha256(wanted.file) if wanted.file.is_file() else ""
    path = request.out or Path("runs") / f"{model.name}-qat"
    with distributed.process_group():
        folder = RunFolder(path)
        identity = Identity("qat-export", wanted.name, hashed)
        first = distributed.is_first()
        with folder.held(identity, overwrite=overwrite) if first else nullcontext():
            record = _run(request, progress, model, folder, hashed, started)
    return path, record


def _run(
    request: QatRequest, progress: Progress, model: TorchModel, folder: RunFolder, hashed: str, started: float
) -> QatRun | None:
    calibration, training = request.calibration, request.training
    source, what = calibration_source(
        model, calibration.folder, calibration.dataset, training.data if training else None, calibration.max_images
    )
    device = distributed.device(request.device)
    module = model.module.to(device)
    foreign = foreign_quantizers(module)
    exporting = yolo.exporting(module) if model.kind == "yolo" else nullcontext()
    with exporting:
        traced = trace(module, model.example.to(device))
    if foreign:
        progress.note(f"The model is quantized already by {foreign}: it is exported as it is")
        made = _Made()
    else:
        made = _quantize(request, progress, model, source, traced, folder.path, device)
    if not distributed.is_first():
        return None
    delivered, compiled = _deliver(request, _Job(model, source, traced, made.ranges, progress), folder, hashed)
    record = QatRun(
        provenance=provenance(time.perf_counter() - started),
        recipe=request.recipe,
        model=ModelFacts(
            name=model.name, path=str(request.model.file), sha256=hashed, kind=model.kind,
            parameters=sum(p.numel() for p in module.parameters()),
        ),
        data=DataFacts(what=what, images=len(source), sha256=source.sha256()),
        preprocess=PreprocessFacts(
            settings=model.preprocess.to_json(), words=model.preprocess.describe(), origin=model.preprocess_origin
        ),
        device=str(device), quantized_by=foreign, calibration=made.calibration, placement=made.placement,
        ranges=_range_facts(made.ranges) if made.ranges else (), training=made.training,
        exported=delivered.exported, against_torch=delivered.against_torch, against_float=delivered.against_float,
        prediction=timed_prediction(folder.path / delivered.exported.file, request.predicted), compiled=compiled,
        stages=folder.records(),
    )  # fmt: skip
    record.save(folder.path / RUN)
    write_reports(folder.path, record)
    return record


def _quantize(
    request: QatRequest, progress: Progress, model: TorchModel, source: Source, traced: Trace, folder: Path,
    device: torch.device,
) -> _Made:  # fmt: skip
    module, training, wanted = model.module, request.training, request.calibration
    plan = plan_for(
        traced, request.placement, model.float_modules, best=request.predicted if request.best_placement else None
    )
    if not plan.weights:
        raise QuantbenchError("no layer can be quantized: every Conv, ConvTranspose and Linear is kept float")
    teacher = copy.deepcopy(module) if training and training.options.distill else None
    float_copy = copy.deepcopy(module) if training else None
    # On a copy, since what calibration finds may take quantizers out of the plan.
    probe = copy.deepcopy(module)
    insert(probe, traced, plan)
    with progress.task(f"Calibrating ({wanted.method})", 2 * len(source)) as advance:
        batches = tensor_batches(source, wanted.batch_size, wanted.max_bad, advance)
        ranges = ranges_of(collect(probe, batches), wanted.method)
    del probe
    plan, poor = guarded(plan, ranges, request.placement.residual_db)
    if poor:
        progress.note(f"{len(poor)} skip connections stay float: outliers leave most of their values to the noise")
    insert(module, traced, plan, learned=bool(training and training.options.learned_scales))
    apply_ranges(module, ranges)
    set_mode(module, Mode.QUANTIZE)
    reached = None
    if training:
        reached = finetune(
            model, FineTuning(training.data, training.options, folder, device, teacher, float_copy), progress
        )
        set_mode(module, Mode.QUANTIZE)
    return _Made(CalibrationFacts(method=wanted.method), placement_facts(traced.view, plan), ranges, reached)


def _deliver(
    request: QatRequest, job: _Job, folder: RunFolder, hashed: str
) -> tuple[_Delivered, Compiled | Refused | None]:
    found: list[_Delivered] = []

    def work(inputs: _Exporting, out: Path) -> None:
        found.append(_export(inputs.request.export, inputs.job, out))

    versions = chosen_versions("onnx", "onnx-graphsurgeon", "onnxruntime", "torch")
    inputs = _Exporting(hashed, request, Images.of(job.source), job)
    record = folder.run(Stage("export", inputs, versions, work), again=True)
    delivered, model = found[0], job.model
    path = folder.path / delivered.exported.file
    shapes = ((model.input_name, (-1, *model.example.shape[1:])),)
    compiling = Compiling(
        FileRef(next(o.sha256 for o in record.outputs if o.path == path.name), path), "without Q/DQ",
        delivered.exported.quantized, delivered.exported.weighted, shapes,
        None, request.compile, "export", _without_qdq(delivered.model),
    )  # fmt: skip
    return delivered, compile_in(folder, compiling, check_request(request.compile), job.progress)


def _export(wanted: ExportOptions, job: _Job, out: Path) -> _Delivered:
    model = job.model
    module = model.module.cpu()
    options = replace(wanted, input_name=model.input_name, output_names=model.output_names)
    job.progress.note(f"Exporting through torch's {wanted.exporter} exporter")
    exporting = yolo.exporting(module, dynamic=wanted.dynamic_batch) if model.kind == "yolo" else nullcontext()
    with exporting:
        exported = export_onnx(module, model.example, job.traced.folds if job.ranges is not None else (), options)
        images = first_images(job.source, _COMPARED)
        reference = run_torch(module, images)
        unquantized = _float_outputs(module, images)
    if job.ranges is not None:
        write_json(out / "ranges.json", job.ranges.to_json())
    path = out / f"{model.name}.qdq.onnx"
    save_model(exported, path)
    answers = run_onnx(exported, images.numpy())
    quantized, weighted = quantized_nodes(exported)
    facts = Exported(
        file=path.name,
        bytes=path.stat().st_size,
        opset=max(o.version for o in exported.opset_import if o.domain in ("", "ai.onnx")),
        inputs=_signature(exported.graph.input),
        outputs=_signature(exported.graph.output),
        weighted=weighted,
        quantized=quantized,
        concats=concat_scales(exported),
    )
    boxes = yolo.boxes(module) if model.kind == "yolo" else None
    return _Delivered(exported, facts, compare(reference, answers, boxes), compare(unquantized, answers, boxes))


def _without_qdq(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The float model to compare with; None where another tool's Q/DQ cannot be taken out."""
    try:
        return strip_qdq(model).model
    except QuantbenchError:
        return None


def _float_outputs(module: nn.Module, images: torch.Tensor) -> Any:
    """What the same weights give without quantizers."""
    set_mode(module, Mode.OFF)
    try:
        return run_torch(module, images)
    finally:
        set_mode(module, Mode.QUANTIZE)


def _range_facts(ranges: Ranges) -> tuple[RangeFacts, ...]:
    return tuple(
        RangeFacts(
            tensor=name, amax=r.amax, observed_max=r.histogram["observed_max"],
            share_clipped=r.histogram["share_clipped"],
        )
        for name, r in ranges.tensors.items()
    )  # fmt: skip


def _signature(values: Any) -> tuple[TensorSignature, ...]:
    found = []
    for value in values:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        found.append(TensorSignature(name=value.name, shape=shape, type=kind))
    return tuple(found)
