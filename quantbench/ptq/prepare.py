"""Everything of a PTQ run that is known before the first image runs; nothing here touches the run folder."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from quantbench.calibration.ort_outputs import static_batch
from quantbench.compilation.request import check_request, check_shapes
from quantbench.core.quantize import refuse_quantized
from quantbench.data.box_labels import check_box_labels
from quantbench.data.class_list import read_classes
from quantbench.data.model_input import ImageInput, fitting_preprocess, image_input
from quantbench.data.sources import (
    Classes,
    Images,
    at_most,
    check_labels,
    dataset_source,
    first_image,
    folder_source,
    labels_of,
)
from quantbench.engines.build import Chosen
from quantbench.errors import QuantbenchError
from quantbench.evaluate.task import answers, facts_of
from quantbench.graph.load import load_model, model_sha256
from quantbench.graph.onnx_view import view_of
from quantbench.graph.view import GraphView
from quantbench.images.arrays import ArrayFiles
from quantbench.images.preprocess import Preprocess
from quantbench.images.source import Source, Subset
from quantbench.images.truth import labels_sha256
from quantbench.predict.best import best_placement
from quantbench.predict.versions import DEFAULT
from quantbench.ptq.calibrator_choice import Choice, choose
from quantbench.ptq.request import DataChoice, EvaluationChoice, PtqRequest
from quantbench.ptq.resolve import display_name, model_path
from quantbench.qdq.facts import placement_facts
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.records.facts import DataFacts, ModelFacts, PlacementFacts, PreprocessFacts


@dataclass(frozen=True, slots=True)
class FloatModel:
    """The network that is quantized, loaded, with the hash of its file."""

    path: Path
    sha256: str
    proto: onnx.ModelProto
    view: GraphView
    image: ImageInput

    def key(self) -> str:
        """Its content; where it lies changes nothing."""
        return self.sha256


@dataclass(frozen=True, slots=True)
class Prepared:
    """Model, data, plan and compiler; `batch`: images a batch, `shape`: of an image as the model gets it. The rest is
    what run.json tells of them."""

    model: FloatModel
    plan: Plan
    choice: Choice
    calibration: Images
    evaluation: Images
    compiler: Chosen | None
    batch: int
    shape: tuple[int, ...]
    model_facts: ModelFacts
    data_facts: DataFacts
    preprocess_facts: PreprocessFacts
    evaluated_on: DataFacts
    placement_facts: PlacementFacts


def prepare(request: PtqRequest) -> Prepared:
    """Load and check model, data and plan. Raises QuantbenchError for whatever is wrong with them."""
    choice = choose(request.calibrator)
    compiler = check_request(request.compile)
    path = model_path(request.model)
    proto = load_model(path)
    refuse_quantized(proto, str(path))
    image = image_input(proto, str(path))
    preprocess, origin = fitting_preprocess(request.data.preprocess, image)
    calibration, where = _calibration_images(request.data, preprocess)
    classes = model_classes(proto, request.evaluation.classes)
    evaluation, what = _evaluation_images(request.evaluation, preprocess, calibration, classes)
    labels = labels_of(evaluation)
    shape = tuple(first_image(calibration).shape)
    check_shapes(request.compile, {image.name: (image.batch or -1, *shape)})
    if request.evaluation.labels == "yolo" and request.evaluation.dir is not None:
        check_box_labels(proto, image.name, evaluation, labels, request.evaluation.dir, threads=request.threads)
    view = view_of(proto)
    if request.best_placement:
        goal = request.predicted
        plan = best_placement(view, request.placement, version=goal.tensorrt or DEFAULT, gpu=goal.gpu).plan
    else:
        plan = place(view, request.placement)
    model = FloatModel(path, model_sha256(path), proto, view, image)
    calibrated, evaluated = Images.of(calibration), Images.of(evaluation)
    return Prepared(
        model, plan, choice, calibrated, evaluated, compiler, static_batch(proto) or request.batch_size, shape,
        ModelFacts(name=display_name(request.model.name), path=str(path), sha256=model.sha256),
        DataFacts(what=where, images=len(calibration), sha256=calibrated.sha256),
        _preprocess_facts(preprocess, origin, calibration),
        DataFacts(
            what=what, images=len(evaluation), sha256=evaluated.sha256, labels_sha256=labels_sha256(labels)
        ),
        placement_facts(view, plan),
    )  # fmt: skip


def _preprocess_facts(preprocess: Preprocess, origin: str, images: Source) -> PreprocessFacts:
    while isinstance(images, Subset):
        images = images.whole
    if isinstance(images, ArrayFiles):
        return PreprocessFacts(settings={}, words="none", origin="arrays are taken as they are stored")
    return PreprocessFacts(settings=preprocess.to_json(), words=preprocess.describe(), origin=origin)


def _calibration_images(data: DataChoice, preprocess: Preprocess) -> tuple[Source, str]:
    if data.calib_dir is not None:
        return at_most(folder_source(data.calib_dir, preprocess), data.max_images), str(data.calib_dir)
    if data.dataset is not None:
        return at_most(dataset_source(data.dataset, preprocess), data.max_images), f"data set {data.dataset}"
    raise QuantbenchError("no calibration images: give --calib-dir FOLDER, or data.dataset in a recipe")


def model_classes(model: onnx.ModelProto, given: Path | None) -> Classes:
    """Class names as given, else as the model's metadata has them, and how many answers the model has."""
    return Classes(read_classes(given) if given is not None else facts_of(model).names, answers(model))


def _evaluation_images(
    wanted: EvaluationChoice, preprocess: Preprocess, calibration: Source, classes: Classes
) -> tuple[Source, str]:
    check_labels(wanted.labels)
    if wanted.dir is not None:
        source = folder_source(wanted.dir, preprocess, wanted.labels, classes)
        return at_most(source, wanted.max_images), str(wanted.dir)
    if wanted.labels != "none":
        raise QuantbenchError(f"--labels {wanted.labels} needs --eval-dir FOLDER: the images that the labels belong to")
    if wanted.dataset is not None:
        return at_most(dataset_source(wanted.dataset, preprocess), wanted.max_images), wanted.dataset
    return at_most(calibration, wanted.max_images), "the calibration images themselves (name others with --eval-dir)"
