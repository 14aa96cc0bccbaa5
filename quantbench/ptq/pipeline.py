"""`quantbench ptq` from a recipe to a finished run folder. A stage is skipped while what it depends on is unchanged."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from quantbench.atomic import write_json
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.ort_outputs import static_batch
from quantbench.calibration.ranges import Ranges
from quantbench.calibrator import feeds as calibrator_feeds
from quantbench.compilation.compile_check import (
    ENGINE,
    LAYERS,
    LOG,
    Subject,
    check_request,
    check_shapes,
    compile_stage,
    missing,
    read_compiled,
)
from quantbench.core.quantize import BIAS_IMAGES, ORT_MODEL, QDQ_MODEL, quantize, refuse_quantized
from quantbench.data.box_labels import check_box_labels
from quantbench.data.class_list import read_classes
from quantbench.data.model_input import ImageInput, fitting_preprocess, image_input
from quantbench.data.sources import (
    Classes,
    at_most,
    check_labels,
    dataset_source,
    feeds,
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
from quantbench.images.source import Source
from quantbench.images.truth import labels_sha256
from quantbench.predict.best import best_placement
from quantbench.predict.facts import prediction_facts
from quantbench.predict.versions import DEFAULT
from quantbench.progress import Progress
from quantbench.provenance import provenance
from quantbench.ptq.cache_policy import CACHE, Policy, cached_ranges, write_cache
from quantbench.ptq.calibrate import calibrate
from quantbench.ptq.calibrator_choice import Choice, choose
from quantbench.ptq.measure import measure
from quantbench.ptq.range_warnings import range_warnings
from quantbench.ptq.resolve import display_name, model_path
from quantbench.qdq.facts import placement_facts
from quantbench.qdq.guard import guarded
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.qdq.tensors import calibrated_tensors
from quantbench.recipe import Recipe
from quantbench.records.compiled import Compiled, Refused
from quantbench.records.evaluation import Evaluation
from quantbench.records.facts import CalibrationFacts, DataFacts, ModelFacts, PlacementFacts, PreprocessFacts
from quantbench.records.run import RUN, PtqRun
from quantbench.run_folder import RunFolder, digest

EVALUATION = "evaluation.json"
RANGES = "ranges.json"
_SHOWN_WARNINGS = 3


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the first image runs; making it touches no file of the run folder."""

    recipe: Recipe
    path: Path
    model: onnx.ModelProto
    view: GraphView
    image: ImageInput
    plan: Plan
    choice: Choice
    calibration: Source
    evaluation: Source
    facts: "Facts"
    compiler: Chosen | None
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What went in, as run.json tells it."""

    model: ModelFacts
    data: DataFacts
    preprocess: PreprocessFacts
    evaluated_on: DataFacts
    placement: PlacementFacts


def run_ptq(
    recipe: Recipe, progress: Progress, *, overwrite: bool = False, cache: Policy = "check"
) -> tuple[RunFolder, PtqRun]:
    """Do or finish the run of `recipe`; returns its folder and what run.json holds. Raises QuantbenchError."""
    method = Path(recipe.calibration.calibrator).stem
    folder = RunFolder(recipe.out or Path("runs") / f"{display_name(recipe)}-{method}")
    run = prepare(recipe)
    facts = run.facts
    owner = {"model": facts.model.sha256, "data": facts.data.sha256, "method": run.choice.method}
    identity = {"command": "ptq", "model": str(recipe.model), "sha256": facts.model.sha256}
    folder.claim(identity, overwrite=overwrite)
    try:
        return folder, _stages(run, folder, owner, progress, cache)
    except QuantbenchError:
        folder.abandon()
        raise


def _stages(run: Prepared, folder: RunFolder, owner: dict[str, str], progress: Progress, cache: Policy) -> PtqRun:
    recipe, facts = run.recipe, run.facts
    given = cached_ranges(folder.path, owner, cache)
    # A refresh must not find its own stage done: the time makes its key new.
    owner_key = [owner, provenance().time] if cache == "refresh" else [owner]
    ranges = _ranges(run, folder, owner, owner_key, given, progress)
    run = _without_poor_skips(run, ranges, progress)
    facts = run.facts
    warnings = range_warnings(ranges)
    for warning in warnings[:_SHOWN_WARNINGS]:
        progress.note(f"warning: {warning}")
    if len(warnings) > _SHOWN_WARNINGS:
        progress.note(f"warning: and {len(warnings) - _SHOWN_WARNINGS} more such tensors; see report.md")

    quantize_key = [facts.model.sha256, digest(ranges.to_json()), recipe.placement.model_dump(),
                    recipe.calibration.bias_correction, facts.data.sha256]  # fmt: skip
    folder.stage(
        "quantize", quantize_key, [QDQ_MODEL, ORT_MODEL], lambda: _quantize(run, ranges, folder.path, progress)
    )
    compiler = _compile(run, ranges, folder, quantize_key, progress)
    images = (facts.evaluated_on.sha256, facts.evaluated_on.labels_sha256)
    evaluate_key = [quantize_key, *images, recipe.evaluation.latency, recipe.threads]
    folder.stage("evaluate", evaluate_key, [EVALUATION], lambda: _measure(run, folder.path, progress))
    record = PtqRun(
        provenance=provenance(),
        recipe=recipe.model_dump(mode="json"),
        model=facts.model,
        data=facts.data,
        preprocess=facts.preprocess,
        calibration=CalibrationFacts(
            method=run.choice.method,
            source="images" if given is None else CACHE,
            bias_correction=recipe.calibration.bias_correction,
            warnings=tuple(warnings),
        ),
        placement=facts.placement,
        evaluated_on=facts.evaluated_on,
        evaluation=Evaluation.load(folder.path / EVALUATION),
        prediction=prediction_facts(folder.path / QDQ_MODEL, recipe.placement.tensorrt, recipe.placement.gpu),
        compiled=compiler,
    )
    record.save(folder.path / RUN)
    return record


def _without_poor_skips(run: Prepared, ranges: Ranges, progress: Progress) -> Prepared:
    """`run` with the plan that the ranges allow."""
    plan, left = guarded(run.plan, ranges, run.recipe.placement.residual_db)
    if not left:
        return run
    worst = min(left, key=lambda name: left[name])
    count = "1 skip connection stays" if len(left) == 1 else f"{len(left)} skip connections stay"
    progress.note(f"{count} float: outliers leave most values {left[worst]:.1f} dB above the noise at {worst}")
    return replace(run, plan=plan, facts=replace(run.facts, placement=placement_facts(run.view, plan)))


def prepare(recipe: Recipe) -> Prepared:
    """Load and check model, data and plan. Raises QuantbenchError for whatever is wrong with them."""
    choice = choose(recipe.calibration.calibrator)
    chosen = check_request(recipe.compile)
    path = model_path(recipe)
    model = load_model(path)
    refuse_quantized(model, str(path))
    image = image_input(model, str(path))
    preprocess, origin = fitting_preprocess(recipe.data.preprocess, image)
    calibration = _calibration_source(recipe, preprocess)
    evaluation, what = _evaluation_source(recipe, preprocess, calibration, model_classes(model, recipe))
    labels = labels_of(evaluation)
    shape = tuple(first_image(calibration).shape)
    check_shapes(recipe.compile, {image.name: (image.batch or -1, *shape)})
    if recipe.evaluation.labels == "yolo" and recipe.evaluation.dir is not None:
        check_box_labels(model, image.name, evaluation, labels, recipe.evaluation.dir, threads=recipe.threads)
    view = view_of(model)
    switches = recipe.placement
    options = PlacementOptions(**switches.model_dump(exclude={"method", "tensorrt", "gpu"}))
    if switches.method == "best":
        plan = best_placement(view, options, version=switches.tensorrt or DEFAULT, gpu=switches.gpu).plan
    else:
        plan = place(view, options)
    where = recipe.data.calib_dir if recipe.data.calib_dir is not None else f"data set {recipe.data.dataset}"
    facts = Facts(
        ModelFacts(name=display_name(recipe), path=str(path), sha256=model_sha256(path)),
        DataFacts(what=str(where), images=len(calibration), sha256=calibration.sha256()),
        PreprocessFacts(settings=preprocess.to_json(), words=preprocess.describe(), origin=origin),
        DataFacts(what=what, images=len(evaluation), sha256=evaluation.sha256(), labels_sha256=labels_sha256(labels)),
        placement_facts(view, plan),
    )
    return Prepared(recipe, path, model, view, image, plan, choice, calibration, evaluation, facts, chosen, shape)


def _calibration_source(recipe: Recipe, preprocess: Any) -> Source:
    data = recipe.data
    if data.calib_dir is not None:
        return at_most(folder_source(data.calib_dir, preprocess), data.max_images)
    if data.dataset is not None:
        return at_most(dataset_source(data.dataset, preprocess), data.max_images)
    raise QuantbenchError("no calibration images: give --calib-dir FOLDER, or data.dataset in a recipe")


def model_classes(model: onnx.ModelProto, recipe: Recipe) -> Classes:
    """Class names as given, else as the model's metadata has them, and how many answers the model has."""
    given = recipe.evaluation.classes
    return Classes(read_classes(given) if given is not None else facts_of(model).names, answers(model))


def _evaluation_source(recipe: Recipe, preprocess: Any, calibration: Source, classes: Classes) -> tuple[Source, str]:
    wanted = recipe.evaluation
    check_labels(wanted.labels)
    if wanted.dir is not None:
        source = folder_source(wanted.dir, preprocess, wanted.labels, classes)
        return at_most(source, wanted.max_images), str(wanted.dir)
    if wanted.labels != "none":
        raise QuantbenchError(f"--labels {wanted.labels} needs --eval-dir FOLDER: the images that the labels belong to")
    if wanted.dataset is not None:
        return at_most(dataset_source(wanted.dataset, preprocess), wanted.max_images), wanted.dataset
    return at_most(calibration, wanted.max_images), "the calibration images themselves (name others with --eval-dir)"


def _ranges(
    run: Prepared, folder: RunFolder, owner: dict[str, str], key: list[Any], given: Ranges | None, progress: Progress
) -> Ranges:
    if given is not None:
        progress.note(f"Ranges from {folder.path / CACHE}, as --reuse-cache says")
        write_json(folder.path / RANGES, given.to_json())
        return given
    recipe = run.recipe
    batch = static_batch(run.model) or recipe.calibration.batch_size
    tensors = calibrated_tensors(run.view, run.plan)

    def work() -> None:
        calibrator = run.choice.kind(
            lambda: feeds(run.calibration, run.image.name, batch, max_bad=recipe.data.max_bad), batch
        )
        histograms = calibrate(
            run.model,
            tensors,
            lambda: calibrator_feeds(calibrator, [run.image.name]),
            len(run.calibration),
            folder.state,
            digest([owner["model"], owner["data"], list(tensors), batch]),
            progress,
            needed=run.plan.tensors,
            threads=recipe.threads,
        )
        found = find_ranges(histograms, run.choice.method, run.choice.threshold)
        write_json(folder.path / RANGES, found.to_json())
        write_cache(folder.path, found, owner, run.choice.algorithm)

    folder.stage("calibrate", [key, list(tensors), batch], [RANGES, CACHE], work)
    return Ranges.from_json(json.loads((folder.path / RANGES).read_text(encoding="utf-8")))


def _quantize(run: Prepared, ranges: Ranges, folder: Path, progress: Progress) -> None:
    recipe = run.recipe
    batch = static_batch(run.model) or recipe.calibration.batch_size
    few = at_most(run.calibration, BIAS_IMAGES)
    correct = recipe.calibration.bias_correction
    quantize(
        run.model,
        run.plan,
        ranges,
        folder,
        progress,
        feeds=(lambda: feeds(few, run.image.name, batch, max_bad=recipe.data.max_bad)) if correct else None,
        images=len(few),
        threads=recipe.threads,
    )


def _compile(
    run: Prepared, ranges: Ranges, folder: RunFolder, key: list[Any], progress: Progress
) -> Compiled | Refused | None:
    wanted, chosen = run.recipe.compile, run.compiler
    if chosen is None:
        if why := missing(wanted):
            progress.note(why)
        return None
    found: list[Compiled | Refused] = []

    def work() -> None:
        subject = Subject(
            onnx.load(str(folder.path / QDQ_MODEL)),
            run.model,
            run.facts.placement.quantized,
            run.facts.placement.weighted,
            run.image.name,
            run.shape,
            ranges,
        )
        found.append(compile_stage(subject, folder.path, wanted, chosen, progress))

    folder.stage("compile", [key, wanted.model_dump(mode="json"), chosen.title], [LAYERS, LOG, ENGINE], work)
    return found[0] if found else read_compiled(folder.path)


def _measure(run: Prepared, folder: Path, progress: Progress) -> None:
    recipe = run.recipe
    result = measure(
        run.model,
        run.facts.placement.quantized,
        run.image.name,
        run.evaluation,
        run.calibration,
        folder,
        progress,
        batch=static_batch(run.model) or recipe.calibration.batch_size,
        max_bad=recipe.data.max_bad,
        threads=recipe.threads,
        latency=recipe.evaluation.latency,
    )
    result.save(folder / EVALUATION)
