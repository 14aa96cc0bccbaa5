"""Everything of a PTQ run that is known before the first image runs; nothing here touches the run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from quantbench.calibration.ort_outputs import padded, static_batch
from quantbench.compilation.request import check_request, check_shapes
from quantbench.core.qdq_or_not import refuse_quantized
from quantbench.data.box_labels import check_box_labels
from quantbench.data.class_list import read_classes
from quantbench.data.sources import AnySource, Classes, Images, first_image, is_calls, labels_of, sample_shapes
from quantbench.data.tensor_inputs import TensorInput, tensor_inputs
from quantbench.engines.build import Chosen
from quantbench.engines.shapes import Shape, shapes_by_input
from quantbench.errors import QuantbenchError
from quantbench.evaluate.task import answers, facts_of
from quantbench.graph.load import load_model, model_sha256
from quantbench.graph.view import GraphView
from quantbench.images.kept import Room, kept
from quantbench.images.truth import labels_sha256
from quantbench.latency.facts import device_cost
from quantbench.ort import create_session, refusals
from quantbench.predict.best import best_placement
from quantbench.predict.versions import DEFAULT, PredictedFor
from quantbench.ptq.calibrate_on import Place, place_of
from quantbench.ptq.calibrator_choice import Choice, choose
from quantbench.ptq.data_sources import calibration_data, evaluation_data
from quantbench.ptq.request import PtqRequest
from quantbench.ptq.resolve import display_name, model_path
from quantbench.qdq.carry_out import check_plan
from quantbench.qdq.facts import placement_facts
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.records.facts import DataFacts, ModelFacts, PlacementFacts, PreprocessFacts
from quantbench.runnable import lacking, runnable_part, view_to_quantize


@dataclass(frozen=True, slots=True)
class FloatModel:
    """The network that is quantized, loaded, with the hash of its file."""

    path: Path
    sha256: str
    proto: onnx.ModelProto
    view: GraphView
    inputs: tuple[TensorInput, ...]

    def key(self) -> str:
        """Its content; where it lies changes nothing."""
        return self.sha256

    @property
    def input_name(self) -> str:
        """The first input: the image of a model that takes one."""
        return self.inputs[0].name


@dataclass(frozen=True, slots=True)
class Prepared:
    """Model, data, plan and compiler; `batch`: samples a batch, `shapes`: of each input, -1 for the axis of the batch,
    `place`: where tensors are counted. The rest is what run.json tells of them."""

    model: FloatModel
    plan: Plan
    choice: Choice
    calibration: Images
    evaluation: Images
    compiler: Chosen | None
    batch: int
    shapes: Mapping[str, tuple[int, ...]]
    model_facts: ModelFacts
    data_facts: DataFacts
    preprocess_facts: PreprocessFacts
    evaluated_on: DataFacts
    placement_facts: PlacementFacts
    place: Place


def prepare(request: PtqRequest) -> Prepared:
    """Load and check model, data and plan. Raises QuantbenchError for whatever is wrong with them."""
    choice = choose(request.calibrator)
    compiler = check_request(request.compile)
    device = place_of(request.device)
    path = model_path(request.model)
    proto = load_model(path)
    refuse_quantized(proto, str(path))
    wanted_shapes = shapes_by_input(request.compile.options.profiles)
    opened = calibration_data(proto, str(path), request.data, wanted_shapes)
    room = Room()
    opened = replace(opened, source=kept(opened.source, room))
    calibration = opened.source
    evaluation, what = evaluation_data(
        proto, request.evaluation, opened, model_classes(proto, request.evaluation.classes)
    )
    evaluation = kept(evaluation, room)
    labels = labels_of(evaluation)
    inputs = tensor_inputs(proto)
    shapes = {
        name: _over_range(name, shape, wanted_shapes.get(name, ()), inputs)
        for name, shape in sample_shapes(calibration, inputs[0].name).items()
    }
    fixed = static_batch(proto)
    check_shapes(request.compile, {n: tuple(fixed or -1 if d == -1 else d for d in s) for n, s in shapes.items()})
    if request.evaluation.labels == "yolo" and request.evaluation.dir is not None and not is_calls(evaluation):
        check_box_labels(proto, inputs[0].name, evaluation, labels, request.evaluation.dir, threads=request.threads)
    view = view_to_quantize(proto)
    plan = planned(view, request.placement, request.predicted, best=request.best_placement)
    check_plan(plan)
    _check_size(proto, calibration, opened.facts, request.threads)
    model = FloatModel(path, model_sha256(path), proto, view, inputs)
    if lacking(proto):
        what = f"{what}; outputs end before plugin {lacking(proto)[0].name}"
    calibrated, evaluated = Images.of(calibration), Images.of(evaluation)
    return Prepared(
        model, plan, choice, calibrated, evaluated, compiler, fixed or request.batch_size, shapes,
        ModelFacts(name=display_name(request.model.name), path=str(path), sha256=model.sha256),
        DataFacts(what=opened.what, images=len(calibration), sha256=calibrated.sha256),
        opened.facts,
        DataFacts(
            what=what, images=len(evaluation), sha256=evaluated.sha256, labels_sha256=labels_sha256(labels)
        ),
        placement_facts(view, plan),
        device,
    )  # fmt: skip


def planned(view: GraphView, options: PlacementOptions, goal: PredictedFor, *, best: bool) -> Plan:
    """The plan of the rules, or the best of their variants for `goal`. Raises QuantbenchError for an unknown device."""
    # Known before anything is calibrated: an unknown device is an error now, not at the end.
    cost = device_cost(goal.device) if goal.device else None
    if not best:
        return place(view, options)
    return best_placement(view, options, version=goal.tensorrt or DEFAULT, gpu=goal.gpu, cost=cost).plan


def _over_range(name: str, shape: Shape, wanted: Sequence[Shape], inputs: Sequence[TensorInput]) -> Shape:
    """`shape` of a sample with -1 on the axes that the model leaves open and of which `wanted` names several sizes."""
    free = next((entry.shape for entry in inputs if entry.name == name), None) or ()
    if any(len(one) != len(shape) for one in (*wanted, free)):
        return shape
    return tuple(
        -1 if free[axis] is None and len({one[axis] for one in wanted}) > 1 else size for axis, size in enumerate(shape)
    )


def _check_size(proto: onnx.ModelProto, source: AnySource, facts: PreprocessFacts, threads: int) -> None:
    """Run one picture through a model that leaves its sizes open: not every size fits what stands behind.

    Raises QuantbenchError that names the size, where it came from and how to declare another.
    """
    inputs = tensor_inputs(proto)
    open_sizes = any(not isinstance(size, int) for entry in inputs for size in (entry.shape or ())[1:])
    if is_calls(source) or not open_sizes:
        return
    picture = first_image(source)
    session = create_session(runnable_part(proto), threads=threads)
    try:
        session.run(None, padded({inputs[0].name: picture[None]}, static_batch(proto)))
    except refusals() as error:
        said = " ".join(str(error).split())
        raise QuantbenchError(
            f"the model fails on a picture of {'x'.join(map(str, picture.shape))}, a size that comes of {facts.origin} "
            f"(the model leaves it open); declare its own in a recipe, data: preprocess: {{exact: [HEIGHT, WIDTH]}} "
            f"(onnxruntime: {said.rpartition('Status Message: ')[2][:160]})"
        ) from error


def model_classes(model: onnx.ModelProto, given: Path | None) -> Classes:
    """Class names as given, else as the model's metadata has them, and how many answers the model has."""
    if given is not None:
        return Classes(read_classes(given), answers(model), str(given))
    return Classes(facts_of(model).names, answers(model))
