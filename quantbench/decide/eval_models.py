"""`quantbench eval`: models and labelled images to an Evaluation."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from quantbench.calibration.ort_outputs import padded, runner, static_batch
from quantbench.data.model_input import fitting_preprocess, image_input
from quantbench.data.sources import at_most, dataset_source, first_image, folder_source, labelled
from quantbench.data.tensor_inputs import fitted, tensor_inputs
from quantbench.errors import QuantbenchError
from quantbench.evaluate.evaluator import Evaluation, Subject, Wanted, evaluate
from quantbench.evaluate.int8_agreement import int8_agreement
from quantbench.evaluate.task import facts_of
from quantbench.graph.load import has_qdq, load_model
from quantbench.images.arrays import ArrayFiles
from quantbench.images.shard_arrays import ShardArrays
from quantbench.images.shard_names import names_data
from quantbench.images.source import Source
from quantbench.json_types import JsonObject
from quantbench.load_object import load_object
from quantbench.ort import create_session
from quantbench.progress import Progress
from quantbench.ptq.prepare import model_classes
from quantbench.runnable import runnable_part, told


@dataclass(frozen=True, slots=True)
class DataRequest:
    """Images and how to read them: a folder or a data set's name, `labels` and `classes` as `ptq` has them."""

    path: str
    labels: str = "none"
    classes: Path | None = None
    preprocess: str | JsonObject | None = None
    batch: int = 8
    max_images: int = 1024
    max_bad: int = 0


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """What `quantbench eval` is asked. The first model is the one that the others are held against.

    `reference`: on so many images each model's INT8 is held against our own arithmetic.
    """

    models: tuple[Path, ...]
    data: DataRequest
    task: str = "auto"
    metric: str = ""
    threads: int = 0
    reference: int = 0

    @property
    def metric_name(self) -> str:
        """Name under which the user's metric is reported, "" without one."""
        return self.metric.rpartition(":")[2]


def eval_models(request: EvalRequest, progress: Progress) -> Evaluation:
    """Run all models over the images. Raises QuantbenchError for what does not fit, before anything runs long."""
    first = _load(request.models[0])
    source, input_name = open_data(first, str(request.models[0]), request.data)
    metric = load_object(request.metric) if request.metric else None
    wanted = Wanted(request.task, metric, request.metric_name)
    batch = static_batch(first) or request.data.batch
    loaded = [first, *(_load(path) for path in request.models[1:])]
    names = short_names(request.models)
    subjects = [
        _subject(name, path, model, input_name, request.threads)
        for name, path, model in zip(names, request.models, loaded, strict=True)
    ]
    if cut := told(first):
        progress.note(cut)
    with progress.task("Evaluating", len(source)) as advance:
        found = evaluate(
            subjects, labelled(source, input_name, batch, max_bad=request.data.max_bad), wanted, on_batch=advance
        )
    if not request.reference:
        return found
    few = labelled(at_most(source, request.reference), input_name, batch, max_bad=request.data.max_bad)
    feeds = [padded(feed, static_batch(first)) for feed, _ in few]
    quantized = {name: model for name, model in zip(names, loaded, strict=True) if has_qdq(model)}
    if not quantized:
        raise QuantbenchError("--reference goes with models that hold Q/DQ; none of these does")
    progress.note(f"INT8 arithmetic of {len(quantized)} models on {request.reference} images")
    agreements = {n: int8_agreement(m, feeds, threads=request.threads) for n, m in quantized.items()}
    return replace(found, arithmetic=agreements)


def open_data(model: onnx.ModelProto, name: str, data: DataRequest) -> tuple[Source, str]:
    """The images as the model takes them, and the name of its input. Raises QuantbenchError."""
    image = image_input(model, name)
    preprocess, _ = fitting_preprocess(data.preprocess, image)
    if not names_data(Path(data.path)):
        return at_most(dataset_source(data.path, preprocess), data.max_images), image.name
    source = folder_source(
        Path(data.path), preprocess, data.labels, model_classes(model, data.classes), most=data.max_images
    )
    if isinstance(source, (ArrayFiles, ShardArrays)):
        # Arrays are fed as they are: what does not fit is told before the first batch.
        (entry,) = (entry for entry in tensor_inputs(model) if entry.name == image.name)
        fitted(entry, first_image(source)[None], data.path)
    return at_most(source, data.max_images), image.name


def short_names(paths: tuple[Path, ...]) -> list[str]:
    """File names without ending, with as many folders before them as it takes to tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = [str(Path(*path.with_suffix("").parts[-depth:])) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise QuantbenchError(f"{paths[0]} is named twice; every model once")


def _load(path: Path) -> onnx.ModelProto:
    if path.suffix != ".onnx":
        raise QuantbenchError(f"{path}: eval runs ONNX files (in onnxruntime on the CPU); give the engine's ONNX model")
    return load_model(path)


def _subject(name: str, path: Path, model: onnx.ModelProto, input_name: str, threads: int) -> Subject:
    runs = runnable_part(model)
    session = create_session(runs, threads=threads)
    taken = [value.name for value in session.get_inputs()]
    if taken != [input_name]:
        raise QuantbenchError(f"{path} takes {', '.join(taken)}, the first model {input_name}: not the same input")
    outputs = tuple(value.name for value in session.get_outputs())
    return Subject(name, runner(session, static_batch(runs)), facts_of(model), outputs)
