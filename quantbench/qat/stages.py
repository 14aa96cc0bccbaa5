"""The stages of `quantbench qat-export`, each with exactly what its work gets; the last, compiling, is `ptq`'s too."""

import copy
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from quantbench.atomic import write_json
from quantbench.calibration.ranges import Ranges
from quantbench.data.sources import Images
from quantbench.graph.load import model_sha256
from quantbench.graph.save import save_model
from quantbench.images.source import Source
from quantbench.load_object import load_object, source_sha256
from quantbench.progress import Progress
from quantbench.provenance import chosen_versions
from quantbench.qat import distributed, yolo
from quantbench.qat.checks import compare, exported_facts, run_onnx, run_torch
from quantbench.qat.finetune import FineTuning, finetune
from quantbench.qat.insert import insert
from quantbench.qat.models import TorchModel
from quantbench.qat.observe import apply_ranges, collect, ranges_of
from quantbench.qat.options import TrainOptions
from quantbench.qat.plugins import plugin_calls, told, up_to_plugins
from quantbench.qat.quantizer import Mode, activation_quantizers, set_mode
from quantbench.qat.request import TorchChoice
from quantbench.qat.sources import first_images, tensor_batches
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import Trace
from quantbench.qat.training_state import Checkpoints, save_tensors
from quantbench.qdq.plan import Plan
from quantbench.recipe import Architecture
from quantbench.records.qat import ExportFacts
from quantbench.run_folder import RunFolder
from quantbench.runnable import runnable_part
from quantbench.stage import UNKEYED, FileRef, Inputs, Stage, digest
from quantbench.text_file import read_object

# Ranges as calibration finds them, and as they are in the exported file, where training may have moved them.
CALIBRATED, RANGES = "calibrated.json", "ranges.json"
TRAINED, TRAINING, EXPORT = "trained.pt", "training.json", "export.json"
CALIBRATE, TRAIN, EXPORTING = "calibrate", "train", "export"
_COMPARED = 4
_TORCH = ("numpy", "pillow", "torch", "torchvision", "ultralytics")
# How long a training goes on is no part of what it is: it may be resumed for longer.
_HOW_LONG = ("epochs", "patience", "workers")


@dataclass(frozen=True, slots=True)
class Job:
    """What stages work on and no key can hold: the float module as it was traced. No stage changes it."""

    model: TorchModel
    traced: Trace
    source: Source
    device: torch.device
    progress: Progress


@dataclass(frozen=True, slots=True)
class ModelId:
    """Which model: hash of its weights, the architecture and the hash of the file that defines it, or torchvision's
    name for it; the shape of its input [batch, channels, height, width] and how pictures are prepared for it."""

    weights: str
    architecture: Architecture | None
    factory: str
    name: str
    shape: tuple[int, ...]
    preprocess: str

    @staticmethod
    def of(wanted: TorchChoice, model: TorchModel) -> "ModelId":
        """Of `model`, which was loaded as `wanted` says."""
        architecture = wanted.architecture
        factory = ""
        if architecture is not None:
            factory = source_sha256(load_object(architecture.factory))
            # Where its file lies changes nothing.
            architecture = architecture.model_copy(update={"factory": architecture.factory.rpartition(":")[2]})
        named = architecture is None and not Path(wanted.name).is_file()
        weights = model_sha256(wanted.file) if wanted.file.is_file() else ""
        return ModelId(
            weights, architecture, factory, wanted.name if named else "", tuple(model.example.shape),
            repr(model.preprocess),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Calibrating:
    """Ranges of the tensors that `plan` quantizes, over `images` in batches of `batch`; `device`: cpu or cuda."""

    model: ModelId
    plan: Plan
    images: Images
    batch: int
    method: str
    device: str
    max_bad: int = field(metadata=UNKEYED)
    job: Job = field(metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class Training:
    """Fine-tuning with `ranges` on `data_sha256`, which lie at `data`; `state` keeps whole epochs, and `resume` goes on
    after the last of them."""

    model: ModelId
    plan: Plan
    ranges: Ranges
    data_sha256: str
    options: TrainOptions
    device: str
    data: Path = field(metadata=UNKEYED)
    state: Path = field(metadata=UNKEYED)
    resume: bool = field(metadata=UNKEYED)
    job: Job = field(metadata=UNKEYED)

    def described(self) -> dict[str, str]:
        """What is trained, on what and how, in short texts: of a training that is resumed, all must be the same."""
        parts = {"model": self.model, "placement": self.plan, "ranges": self.ranges, "data": self.data_sha256}
        options = {name: str(value) for name, value in asdict(self.options).items() if name not in _HOW_LONG}
        return {
            **{name: digest(part)[:12] for name, part in parts.items()}, **options, "device": self.device,
            **chosen_versions(*_TORCH),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantized:
    """Quantizers of `plan` with `ranges`; `trained`: the weights that fine-tuning left."""

    plan: Plan
    ranges: Ranges
    learned: bool
    trained: FileRef | None


@dataclass(frozen=True, slots=True)
class Exporting:
    """The file `name`.qdq.onnx of `quantized`, None for a checkpoint that is exported as it is; compared with torch on
    the first of `images`."""

    model: ModelId
    name: str
    quantized: Quantized | None
    images: Images
    options: ExportOptions
    job: Job = field(metadata=UNKEYED)


def run_together(folder: RunFolder, stage: Stage[Inputs]) -> None:
    """Do the stage unless it is done. In a process group all take part in the work; the first keeps what it makes."""
    first = distributed.is_first()
    due = distributed.from_first(first and not folder.done(stage))
    if due and first:
        folder.run(stage, again=True)
    elif due:
        with tempfile.TemporaryDirectory() as nowhere:
            stage.work(stage.inputs, Path(nowhere))


def calibrating(inputs: Calibrating) -> Stage[Calibrating]:
    """Images to calibrated.json."""
    return Stage(CALIBRATE, inputs, chosen_versions(*_TORCH), _calibrate)


def _calibrate(inputs: Calibrating, out: Path) -> None:
    job = inputs.job
    probe = copy.deepcopy(job.model.module)
    insert(probe, job.traced, inputs.plan)
    with job.progress.task(f"Calibrating ({inputs.method})", 2 * len(job.source)) as advance:
        batches = tensor_batches(job.source, inputs.batch, inputs.max_bad, advance)
        ranges = ranges_of(collect(probe, batches), inputs.method)
    write_json(out / CALIBRATED, ranges.to_json())


def read_ranges(path: Path) -> Ranges:
    """The ranges in a file that a stage left."""
    return Ranges.from_json(read_object(path))


def training(inputs: Training) -> Stage[Training]:
    """Images and labels to trained.pt (a state dict) and training.json."""
    return Stage(TRAIN, inputs, chosen_versions(*_TORCH), _train, after=(CALIBRATE,))


def _train(inputs: Training, out: Path) -> None:
    job, options = inputs.job, inputs.options
    plain = job.model.module
    module = _with_quantizers(job, Quantized(inputs.plan, inputs.ranges, options.learned_scales, None))
    checkpoints = Checkpoints(inputs.state, inputs.described(), inputs.resume)
    teacher = copy.deepcopy(plain) if options.distill else None
    wanted = FineTuning(inputs.data, options, checkpoints, job.device, teacher, plain)
    reached = finetune(replace(job.model, module=module), wanted, job.progress)
    reached.save(out / TRAINING)
    save_tensors(out / TRAINED, {name: value.cpu() for name, value in module.state_dict().items()})


def exporting(inputs: Exporting) -> Stage[Exporting]:
    """The module to its Q/DQ ONNX file, ranges.json and export.json."""
    versions = chosen_versions(*_TORCH, "onnx", "onnx-graphsurgeon", "onnxruntime", "onnxruntime-gpu", "onnxscript")
    after = () if inputs.quantized is None else (CALIBRATE,)
    return Stage(EXPORTING, inputs, versions, _export, (*after, TRAIN) if _is_trained(inputs) else after)


def _is_trained(inputs: Exporting) -> bool:
    return inputs.quantized is not None and inputs.quantized.trained is not None


def _export(inputs: Exporting, out: Path) -> None:
    job, wanted, quantized = inputs.job, inputs.options, inputs.quantized
    model = job.model
    module = (model.module if quantized is None else _with_quantizers(job, quantized)).cpu()
    options = replace(wanted, input_name=model.input_name, output_names=model.output_names)
    job.progress.note(f"Exporting through torch's {wanted.exporter} exporter")
    as_exported = yolo.exporting(module, dynamic=wanted.dynamic_batch) if model.kind == "yolo" else nullcontext()
    with as_exported:
        exported = export_onnx(module, model.example, job.traced.folds if quantized is not None else (), options)
        images = first_images(job.source, _COMPARED)
        with plugin_calls() as calls:
            reference = run_torch(module, images)
        set_mode(module, Mode.OFF)
        with plugin_calls() as float_calls:
            unquantized = run_torch(module, images)
        set_mode(module, Mode.QUANTIZE)
    if quantized is not None:
        write_json(out / RANGES, _ranges_of(module, quantized).to_json())
    path = out / f"{inputs.name}.qdq.onnx"
    save_model(exported, path)
    answers = run_onnx(runnable_part(exported), images.numpy())
    if cut := told(exported):
        job.progress.note(cut)
    boxes = yolo.boxes(module) if model.kind == "yolo" else None
    ExportFacts(
        exported=exported_facts(exported, path),
        against_torch=compare(up_to_plugins(exported, reference, answers, calls), answers, boxes),
        against_float=compare(up_to_plugins(exported, unquantized, answers, float_calls), answers, boxes),
    ).save(out / EXPORT)


def _ranges_of(module: nn.Module, wanted: Quantized) -> Ranges:
    """Ranges as `module` has them: scales that were trained are no longer those of calibration."""
    if not wanted.learned:
        return wanted.ranges
    trained = activation_quantizers(module)
    return Ranges(
        {
            name: replace(known, amax=trained[name].range.amax, method=f"{known.method}, trained")
            if name in trained
            else known
            for name, known in wanted.ranges.tensors.items()
        }
    )


def _with_quantizers(job: Job, wanted: Quantized) -> nn.Module:
    """A copy of the module with the quantizers of `wanted`, switched on, and its weights where it was trained."""
    module = copy.deepcopy(job.model.module)
    insert(module, job.traced, wanted.plan, learned=wanted.learned)
    apply_ranges(module, wanted.ranges)
    if wanted.trained is not None:
        module.load_state_dict(torch.load(wanted.trained.path, map_location=job.device, weights_only=True))
        module.eval()
    set_mode(module, Mode.QUANTIZE)
    return module
