"""What a run is calibrated and evaluated on, opened for the inputs that the model has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from pydantic import JsonValue

from quantbench.calibration.ort_outputs import static_batch
from quantbench.core.quantize import BIAS_IMAGES
from quantbench.data.array_calls import ArrayCalls, holds_arrays
from quantbench.data.calls import joined
from quantbench.data.model_input import ImageInput, fitting_preprocess, image_input, image_of
from quantbench.data.shard_calls import ShardCalls
from quantbench.data.sources import (
    AnySource,
    Classes,
    at_most,
    check_labels,
    dataset_source,
    feeds,
    few_pictures,
    folder_source,
)
from quantbench.data.spooled import Spooled
from quantbench.data.tensor_inputs import TensorInput, refuse_unfit, tensor_inputs
from quantbench.engines.shapes import Shape
from quantbench.errors import QuantbenchError
from quantbench.images.arrays import ArrayFiles
from quantbench.images.depth import depth_note
from quantbench.images.preprocess import Preprocess, preset
from quantbench.images.shard_arrays import shards_hold_arrays
from quantbench.images.shard_names import is_shards, names_data
from quantbench.images.shards import Shards, opened
from quantbench.images.sizes import OfSizes
from quantbench.images.source import Prepared, Source
from quantbench.load_object import load_object, names_code
from quantbench.ptq.request import DataChoice, EvaluationChoice
from quantbench.qdq.carry_out import Correction
from quantbench.records.facts import THEMSELVES, PreprocessFacts

_BATCH = 8
_AS_GIVEN = PreprocessFacts(settings={}, words="none", origin="arrays are taken as they are stored")


@dataclass(frozen=True, slots=True)
class Opened:
    """Calibration data, in words what they are, how images among them are prepared (None: there are none)."""

    source: AnySource
    what: str
    preprocess: Preprocess | None
    facts: PreprocessFacts


def calibration_data(
    model: onnx.ModelProto, name: str, data: DataChoice, shapes: Mapping[str, Sequence[Shape]] | None = None
) -> Opened:
    """Open what `data` names for the inputs of `model` (called `name` in messages). `shapes`: those that the engine
    will see, by input: images of a size that the model leaves open are prepared in the size of each of them.

    Raises QuantbenchError, before anything runs, for data that do not fit: input, what it takes, what is given.
    """
    inputs = tensor_inputs(model)
    for declared in (data.preprocess, *(choice.preprocess for choice in data.inputs)):
        if isinstance(declared, str):
            preset(declared)  # a typo is told, although arrays need none
    if data.inputs:
        return _joined(inputs, data)
    if data.calib_dir is not None and names_code(str(data.calib_dir)):
        items = Spooled(inputs, load_object(str(data.calib_dir)), data.max_images, str(data.calib_dir))
        return Opened(at_most(items, data.max_images), str(data.calib_dir), None, _AS_GIVEN)
    if data.calib_dir is not None and data.calib_dir.exists() and holds_arrays(data.calib_dir):
        arrays = ArrayCalls(inputs, data.calib_dir)
        return Opened(at_most(arrays, data.max_images), str(data.calib_dir), None, _AS_GIVEN)
    shards = _shards(data.calib_dir, data.max_images)
    if shards is not None and shards_hold_arrays(shards):
        calls = ShardCalls(inputs, shards)
        return Opened(at_most(calls, data.max_images), shards.described, None, _AS_GIVEN)
    if data.calib_dir is None and data.dataset is None:
        raise QuantbenchError(
            "no calibration data: give --calib-dir FOLDER of images, --calib-data with arrays (.npy, .npz) or "
            "file.py:name, --input NAME=PATH for each input, or data.dataset in a recipe"
        )
    image = image_input(model, name)
    # A full declaration says its size itself.
    sizes = [image] if isinstance(data.preprocess, dict) else sizes_of(image, (shapes or {}).get(image.name, ()))
    each = [fitting_preprocess(data.preprocess, sized) for sized in sizes]
    preprocess, origin = each[len(each) // 2]
    chosen = tuple(dict.fromkeys(one for one, _ in each))
    facts = PreprocessFacts(settings=preprocess.to_json(), words=preprocess.describe(), origin=origin)
    if len(chosen) > 1 and data.calib_dir is not None:
        facts = facts.model_copy(update={"words": "; ".join(one.describe() for one in chosen)})
        source = folder_source(data.calib_dir, preprocess, most=data.max_images)
        if isinstance(source, Prepared):
            several = OfSizes(few_pictures(source, data.max_images), chosen)
            return Opened(several, f"{data.calib_dir}, in {len(chosen)} sizes", preprocess, facts)
    if data.calib_dir is not None:
        images = folder_source(data.calib_dir, preprocess, most=data.max_images)
        facts = _with_depth(facts, images)
        what = shards.described if shards is not None else str(data.calib_dir)
        return Opened(at_most(images, data.max_images), what, preprocess, facts)
    assert data.dataset is not None
    source = dataset_source(data.dataset, preprocess)
    return Opened(at_most(source, data.max_images), f"data set {data.dataset}", preprocess, facts)


def correction_on(model: onnx.ModelProto, name: str, data: DataChoice) -> Correction | None:
    """What corrects biases on `data`, None where it names none. Raises QuantbenchError as `calibration_data`."""
    if data.calib_dir is None and not data.inputs:
        return None
    few = at_most(calibration_data(model, name, data).source, BIAS_IMAGES)
    first = tensor_inputs(model)[0].name
    return Correction(lambda: feeds(few, first, static_batch(model) or _BATCH), len(few))


def sizes_of(image: ImageInput, shapes: Sequence[Shape]) -> list[ImageInput]:
    """`image` with the height and width of each of `shapes`, the smallest first; itself where none says any."""
    axes = (2, 3) if image.layout == "NCHW" else (1, 2)
    found = sorted({(shape[axes[0]], shape[axes[1]]) for shape in shapes if len(shape) == 4})
    if image.height is not None and image.width is not None:
        return [image]
    return [replace(image, height=image.height or h, width=image.width or w) for h, w in found] or [image]


def evaluation_data(
    model: onnx.ModelProto, wanted: EvaluationChoice, calibration: Opened, classes: Classes
) -> tuple[AnySource, str]:
    """Open what FP32 and INT8 are compared on; in words what it is. Raises QuantbenchError as `calibration_data`."""
    check_labels(wanted.labels)
    if wanted.dir is not None:
        return at_most(_named(model, wanted, calibration, classes), wanted.max_images), str(wanted.dir)
    if wanted.labels != "none":
        raise QuantbenchError(f"--labels {wanted.labels} needs --eval-dir FOLDER: the images that the labels belong to")
    if wanted.dataset is not None:
        if calibration.preprocess is None:
            raise QuantbenchError(
                f"{wanted.dataset} is no folder, and a data set of images needs calibration images, whose "
                f"preprocessing it takes"
            )
        return at_most(dataset_source(wanted.dataset, calibration.preprocess), wanted.max_images), wanted.dataset
    few = at_most(calibration.source, wanted.max_images)
    return few, f"{THEMSELVES} (name others with --eval-data)"


def _named(model: onnx.ModelProto, wanted: EvaluationChoice, calibration: Opened, classes: Classes) -> AnySource:
    assert wanted.dir is not None
    if names_code(str(wanted.dir)):
        return Spooled(tensor_inputs(model), load_object(str(wanted.dir)), wanted.max_images, str(wanted.dir))
    if wanted.dir.exists() and holds_arrays(wanted.dir):
        if wanted.labels != "none":
            raise QuantbenchError(f"--labels {wanted.labels} goes with image files; {wanted.dir} holds arrays")
        return ArrayCalls(tensor_inputs(model), wanted.dir)
    shards = _shards(wanted.dir, wanted.max_images)
    if shards is not None and shards_hold_arrays(shards) and wanted.labels == "none":
        return ShardCalls(tensor_inputs(model), shards)
    if shards is None and not wanted.dir.is_dir():
        what = "is a file, not a folder of images or arrays" if wanted.dir.exists() else "does not exist"
        raise QuantbenchError(f"--eval-dir {wanted.dir} {what}")
    if calibration.preprocess is None:
        raise QuantbenchError(f"{wanted.dir} holds images, the calibration data are arrays; give both in one form")
    return folder_source(wanted.dir, calibration.preprocess, wanted.labels, classes, most=wanted.max_images)


def _shards(path: Path | None, most: int) -> Shards | None:
    return opened(path, most) if path is not None and is_shards(path) else None


def _with_depth(facts: PreprocessFacts, images: Source) -> PreprocessFacts:
    note = depth_note(images)
    return facts.model_copy(update={"words": f"{facts.words}; {note}"}) if note else facts


def _joined(inputs: tuple[TensorInput, ...], data: DataChoice) -> Opened:
    if data.calib_dir is not None or data.dataset is not None:
        raise QuantbenchError("--input and --calib-data contradict each other; give one")
    refuse_unfit(inputs, {choice.name: None for choice in data.inputs}, "--input")
    by_name = {choice.name: choice for choice in data.inputs}
    sources: dict[str, Source] = {}
    words: list[str] = []
    settings: dict[str, JsonValue] = {}
    for entry in inputs:
        choice = by_name[entry.name]
        if not names_data(choice.path):
            raise QuantbenchError(f"--input {choice.name}={choice.path} does not exist")
        if holds_arrays(choice.path):
            sources[entry.name] = ArrayFiles(choice.path)
            continue
        image = image_of(entry, f"--input {choice.name}")
        declared = choice.preprocess if choice.preprocess is not None else data.preprocess
        preprocess, origin = fitting_preprocess(declared, image)
        sources[entry.name] = folder_source(choice.path, preprocess)
        settings[entry.name] = preprocess.to_json()
        note = depth_note(sources[entry.name])
        words.append(f"{entry.name}: {preprocess.describe()}{'; ' if note else ''}{note} ({origin})")
    pairs = joined(inputs, sources)
    facts = PreprocessFacts(settings=settings, words="; ".join(words), origin="an input each") if words else _AS_GIVEN
    what = ", ".join(f"{choice.name} {choice.path}" for choice in data.inputs)
    return Opened(at_most(pairs, data.max_images), what, None, facts)
