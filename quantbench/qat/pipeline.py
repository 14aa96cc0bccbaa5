"""`quantbench qat-export`: from a torch checkpoint to a calibrated, perhaps fine-tuned Q/DQ model and its report."""

import copy
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from quantbench.atomic import write_json
from quantbench.cache.strip import strip_qdq
from quantbench.calibration.ranges import Ranges
from quantbench.compilation.compile_check import Subject, check_request, check_shapes, compile_stage, missing
from quantbench.core.quantize import save
from quantbench.errors import QuantbenchError
from quantbench.graph.load import model_sha256
from quantbench.images.source import Source
from quantbench.predict.facts import prediction_facts
from quantbench.progress import Progress
from quantbench.provenance import provenance
from quantbench.qat import distributed, yolo
from quantbench.qat.calibrate import apply_ranges, collect, ranges_of
from quantbench.qat.checks import compare, concat_scales, quantized_nodes, run_onnx, run_torch
from quantbench.qat.export import ExportOptions, export_onnx
from quantbench.qat.finetune import finetune
from quantbench.qat.foreign import foreign_quantizers
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.models import TorchModel, load_model
from quantbench.qat.quantizer import Mode, set_mode
from quantbench.qat.report import write_reports
from quantbench.qat.sources import calibration_source, first_images, tensor_batches
from quantbench.qat.trace import trace
from quantbench.qdq.facts import placement_facts
from quantbench.qdq.guard import guarded
from quantbench.qdq.options import PlacementOptions
from quantbench.recipe import Recipe
from quantbench.records.compiled import Compiled, Refused
from quantbench.records.facts import CalibrationFacts, DataFacts, ModelFacts, PlacementFacts, PreprocessFacts
from quantbench.records.prediction import Prediction
from quantbench.records.qat import Agreement, Exported, RangeFacts, TensorSignature, TrainingFacts
from quantbench.records.run import RUN, QatRun
from quantbench.run_folder import RunFolder

_COMPARED = 4


@dataclass(frozen=True, slots=True)
class Flags:
    """What is no part of a recipe. `device`: "", "cpu" or "cuda"."""

    trust: bool = False
    resume: bool = False
    overwrite: bool = False
    device: str = ""


@dataclass(frozen=True, slots=True)
class _Made:
    """What inserting, calibrating and training came to; nothing of it for a checkpoint that is quantized already."""

    calibration: CalibrationFacts | None = None
    placement: PlacementFacts | None = None
    ranges: tuple[RangeFacts, ...] = ()
    training: TrainingFacts | None = None


@dataclass(frozen=True, slots=True)
class _Delivered:
    """The exported model and what is known of it."""

    exported: Exported
    against_torch: Agreement
    against_float: Agreement
    prediction: Prediction
    compiled: Compiled | Refused | None


def run_qat_export(recipe: Recipe, flags: Flags, progress: Progress) -> tuple[RunFolder, QatRun | None]:
    """Do the whole run; returns its folder and what run.json holds, None in all processes of a group but the first.

    Raises QuantbenchError for faults of the input.
    """
    started = time.perf_counter()
    if not recipe.model:
        raise QuantbenchError("no model: name a checkpoint (yolov8.pt) or a torchvision classifier")
    if recipe.compile.quantization == "implicit":
        raise QuantbenchError("qat-export trains and exports Q/DQ; take 'quantization: implicit' out of the recipe")
    check_request(recipe.compile)  # a wrong option is refused before hours of training
    if recipe.training.epochs and recipe.training.data is None:
        raise QuantbenchError("--epochs needs training data: --data data.yaml (YOLO) or a folder with train/ and val/")
    model = load_model(
        recipe.model, weights=recipe.weights, architecture=recipe.architecture, size=recipe.export.size,
        preprocess=recipe.data.preprocess, trust=flags.trust,
    )  # fmt: skip
    batch = -1 if recipe.export.dynamic_batch else model.example.shape[0]
    check_shapes(recipe.compile, {model.input_name: (batch, *model.example.shape[1:])})
    with distributed.process_group():
        return _run(recipe, flags, progress, model, started)


def _run(
    recipe: Recipe, flags: Flags, progress: Progress, model: TorchModel, started: float
) -> tuple[RunFolder, QatRun | None]:
    file = Path(recipe.weights or recipe.model or "")
    hashed = model_sha256(file) if file.is_file() else ""
    folder = RunFolder(recipe.out or Path("runs") / f"{model.name}-qat")
    if distributed.is_first():
        folder.claim({"command": "qat-export", "model": str(recipe.model), "sha256": hashed}, overwrite=flags.overwrite)
    source, what = calibration_source(
        model, recipe.data.calib_dir, recipe.data.dataset, recipe.training.data, recipe.data.max_images
    )
    device = distributed.device(flags.device)
    module = model.module.to(device)
    foreign = foreign_quantizers(module)
    exporting = yolo.exporting(module) if model.kind == "yolo" else nullcontext()
    with exporting:
        traced = trace(module, model.example.to(device))
    if foreign:
        progress.note(f"The model is quantized already by {foreign}: it is exported as it is")
        made = _Made()
    else:
        made = _quantize(recipe, flags, progress, model, source, traced, folder, device)
    if not distributed.is_first():
        return folder, None
    delivered = _deliver(recipe, progress, model, source, () if foreign else traced.folds, folder)
    record = QatRun(
        provenance=provenance(time.perf_counter() - started),
        recipe=recipe.model_dump(mode="json"),
        model=ModelFacts(
            name=model.name, path=str(file), sha256=hashed, kind=model.kind,
            parameters=sum(p.numel() for p in module.parameters()),
        ),
        data=DataFacts(what=what, images=len(source), sha256=source.sha256()),
        preprocess=PreprocessFacts(
            settings=model.preprocess.to_json(), words=model.preprocess.describe(), origin=model.preprocess_origin
        ),
        device=str(device), quantized_by=foreign, calibration=made.calibration, placement=made.placement,
        ranges=made.ranges, training=made.training, exported=delivered.exported,
        against_torch=delivered.against_torch, against_float=delivered.against_float,
        prediction=delivered.prediction, compiled=delivered.compiled,
    )  # fmt: skip
    record.save(folder.path / RUN)
    write_reports(folder.path, record)
    return folder, record


def _quantize(
    recipe: Recipe, flags: Flags, progress: Progress, model: TorchModel, source: Source, traced: Any,
    folder: RunFolder, device: torch.device,
) -> _Made:  # fmt: skip
    module = model.module
    # Best-of-two placement belongs to the ONNX side; everything else is the same set of switches.
    switches = {k: v for k, v in recipe.placement.model_dump().items() if k in PlacementOptions.__slots__}
    plan = plan_for(traced, PlacementOptions(**switches), model.float_modules)
    if not plan.weights:
        raise QuantbenchError("no layer can be quantized: every Conv, ConvTranspose and Linear is kept float")
    teacher = copy.deepcopy(module) if recipe.training.epochs and recipe.training.distill else None
    float_copy = copy.deepcopy(module) if recipe.training.epochs else None
    # On a copy, since what calibration finds may take quantizers out of the plan.
    probe = copy.deepcopy(module)
    insert(probe, traced, plan)
    method = recipe.calibration.calibrator
    with progress.task(f"Calibrating ({method})", 2 * len(source)) as advance:
        batches = tensor_batches(source, recipe.calibration.batch_size, recipe.data.max_bad, advance)
        ranges = ranges_of(collect(probe, batches), method)
    del probe
    plan, poor = guarded(plan, ranges, recipe.placement.residual_db)
    if poor:
        progress.note(f"{len(poor)} skip connections stay float: outliers leave most of their values to the noise")
    insert(module, traced, plan, learned=recipe.training.learned_scales)
    apply_ranges(module, ranges)
    set_mode(module, Mode.QUANTIZE)
    if distributed.is_first():
        write_json(folder.path / "ranges.json", ranges.to_json())
    training = None
    if recipe.training.epochs:
        training = finetune(model, recipe, flags.resume, folder.path, teacher, float_copy, device, progress)
        set_mode(module, Mode.QUANTIZE)
    return _Made(CalibrationFacts(method=method), placement_facts(traced.view, plan), _range_facts(ranges), training)


def _deliver(
    recipe: Recipe, progress: Progress, model: TorchModel, source: Source, folds: Any, folder: RunFolder
) -> _Delivered:
    module = model.module.cpu()
    wanted = recipe.export
    options = ExportOptions(
        wanted.exporter, wanted.opset, wanted.dynamic_batch, wanted.int8_weights, model.input_name, model.output_names
    )
    progress.note(f"Exporting through torch's {wanted.exporter} exporter")
    exporting = yolo.exporting(module, dynamic=wanted.dynamic_batch) if model.kind == "yolo" else nullcontext()
    with exporting:
        exported = export_onnx(module, model.example, folds, options)
        images = first_images(source, _COMPARED)
        reference = run_torch(module, images)
        unquantized = _float_outputs(module, images)
    path = folder.path / f"{model.name}.qdq.onnx"
    save(exported, path)
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
    compiled = None
    chosen = check_request(recipe.compile)
    if chosen is not None:
        subject = Subject(
            exported, _without_qdq(exported), quantized, weighted, model.input_name, tuple(model.example.shape[1:])
        )
        compiled = compile_stage(subject, folder.path, recipe.compile, chosen, progress)
    elif why := missing(recipe.compile):
        progress.note(why)
    return _Delivered(
        facts,
        compare(reference, answers, boxes),
        compare(unquantized, answers, boxes),
        prediction_facts(path),
        compiled,
    )


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
