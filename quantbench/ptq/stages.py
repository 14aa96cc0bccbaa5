"""The stages of `quantbench ptq`, each with exactly what its work gets."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from quantbench.atomic import write_json
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.ranges import Ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.calibrator import feeds as calibrator_feeds
from quantbench.core.auto import best_by_outputs
from quantbench.core.bench import Judging, judged_samples
from quantbench.core.fold_by_outputs import Foldable, fold_by_outputs, fold_samples
from quantbench.core.full_effort import fully_quantized
from quantbench.core.quantize import BIAS_IMAGES, save_pair
from quantbench.data.sources import Images, at_most, feed_names, feeds, some
from quantbench.folding.options import FoldOptions
from quantbench.graph.save import save_model
from quantbench.progress import Progress
from quantbench.provenance import chosen_versions
from quantbench.ptq import judged_model
from quantbench.ptq.cache_policy import Owner, given_ranges, write_cache
from quantbench.ptq.calibrate import Pass, calibrate
from quantbench.ptq.calibrate_on import Place
from quantbench.ptq.calibrator_choice import Choice, algorithm_of
from quantbench.ptq.measure import Measuring, latency_of, layers_of, measure, sessions, sharing_of
from quantbench.ptq.pictures import pictures_of
from quantbench.ptq.prepare import FloatModel
from quantbench.ptq.spread import Spreading, calibrate_in_pieces
from quantbench.qdq.adaptive_rounding import Rounding
from quantbench.qdq.carry_out import Correction, WeightWork, carry_out
from quantbench.qdq.layouts import layouts_for
from quantbench.qdq.options import WeightOptions
from quantbench.qdq.plan import Plan
from quantbench.records.facts import StageRecord
from quantbench.records.folded import Folded
from quantbench.records.rounding import ROUNDING
from quantbench.stage import UNKEYED, FileRef, Stage, digest
from quantbench.text_file import read_object

RANGES = "ranges.json"
EVALUATION = "evaluation.json"
PICTURES = "pictures.json"
JUDGED = "judged.json"
FOLD = "fold"
FOLDED, FOLDED_MODEL = "folded.json", "model.folded.onnx"
# What can change the numbers of a run.
NUMBERS = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "pillow")


@dataclass(frozen=True, slots=True)
class Folding:
    """The model, changed by equalization and SmoothQuant as `options` have it: what trials are made with, the plan,
    calibration images, the method of thresholds, whether biases are corrected, and where tensors are counted."""

    model: FloatModel
    plan: Plan
    images: Images
    batch: int
    options: FoldOptions
    choice: Choice
    bias_correction: bool
    residual_db: float
    place: Place
    max_bad: int = field(metadata=UNKEYED)
    threads: int = field(metadata=UNKEYED)
    progress: Progress = field(metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class Counting:
    """What histograms are counted from: `tensors` of the model over all images in batches of `batch`, on `place`;
    `feeder` tells of a calibrator that brings data of its own. `needed`: tensors that must have a range."""

    model: FloatModel
    tensors: tuple[str, ...]
    images: Images
    batch: int
    needed: tuple[str, ...]
    feeder: str
    place: Place
    max_bad: int = field(metadata=UNKEYED)
    threads: int = field(metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class Candidates:
    """How calibrator `auto` makes its candidates, and what thresholds for onnxruntime hang on: the Plan that they carry
    out, whether biases are corrected, the dB under which a skip stays float, and whether its model is `affine`."""

    plan: Plan
    bias_correction: bool
    residual_db: float
    affine: bool


@dataclass(frozen=True, slots=True)
class Calibrating:
    """Histograms, and the rule that makes thresholds of them: one method, with `candidates` for the integers of the
    Plan's tensors there, or the best of `candidates`; `state` keeps the histograms; `spreading`: others count them."""

    counting: Counting
    choice: Choice
    candidates: Candidates | None
    owner: Owner
    state: Path = field(metadata=UNKEYED)
    progress: Progress = field(metadata=UNKEYED)
    spreading: Spreading | None = field(default=None, metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class TakingCache:
    """Ranges of a calibration cache that is taken as it is; `sha256` of its file."""

    sha256: str
    cache: Path = field(metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class Quantizing:
    """A Plan carried out with Ranges; `images` correct biases, where `corrected`, and round weights. `affine`:
    onnxruntime's model has all 256 levels where it can. `state` may hold the result."""

    model: FloatModel
    plan: Plan
    ranges: Ranges
    images: Images | None
    corrected: bool
    weights: WeightOptions
    batch: int
    affine: bool
    max_bad: int = field(metadata=UNKEYED)
    threads: int = field(metadata=UNKEYED)
    state: Path = field(metadata=UNKEYED)
    progress: Progress = field(metadata=UNKEYED)


class LeftAlone(Exception):
    """Raised by the fold stage, so that nothing of it is kept beside what an earlier run left: no channel of the model
    was scaled, as `folded` has it."""

    def __init__(self, folded: Folded) -> None:
        super().__init__(folded.in_words())
        self.folded = folded


def folding(inputs: Folding) -> Stage[Folding]:
    """Model and images to folded.json and model.folded.onnx; its work raises LeftAlone where the model stays."""
    return Stage(FOLD, inputs, chosen_versions(*NUMBERS), _fold)


def foldable(inputs: Folding) -> Foldable:
    """What of the calibration images is looked at and judged on, and how trials are made."""
    # Of a class that brings its own images, and of auto, mse says what a change is worth.
    plain = inputs.choice.is_auto or inputs.choice.feeder
    return Foldable(
        inputs.model.proto, inputs.model.view, inputs.plan,
        fold_samples(len(inputs.images.source), partial(_some_feeds, inputs)),
        threshold_method("mse") if plain else inputs.choice.threshold,
        inputs.bias_correction, inputs.residual_db, inputs.threads, inputs.progress, inputs.place.begin,
    )  # fmt: skip


def _fold(inputs: Folding, out: Path) -> None:
    made, folded = fold_by_outputs(foldable(inputs), inputs.options)
    if not folded.taken:
        raise LeftAlone(folded)
    folded.save(out / FOLDED)
    save_model(made, out / FOLDED_MODEL)


def _some_feeds(inputs: Folding, indices: Sequence[int]) -> Callable[[], Iterable[Feed]]:
    source = some(inputs.images.source, tuple(indices))
    return lambda: feeds(source, inputs.model.input_name, inputs.batch, max_bad=inputs.max_bad)


def calibrating(inputs: Calibrating) -> Stage[Calibrating]:
    """Images to ranges.json and calibration.cache."""
    return Stage("calibrate", inputs, chosen_versions(*NUMBERS), _calibrate)


def _calibrate(inputs: Calibrating, out: Path) -> None:
    counting, choice = inputs.counting, inputs.choice
    histograms = _histograms(inputs)
    candidates = inputs.candidates
    corrects = candidates is not None and candidates.bias_correction
    correction = _correction(counting, counting.images) if corrects else None
    if candidates is None:
        found, algorithm = find_ranges(histograms, choice.method, choice.threshold), choice.algorithm
    elif not choice.is_auto:
        layouts = layouts_for(counting.model.proto, candidates.plan, histograms, correction)
        found, algorithm = find_ranges(histograms, choice.method, choice.threshold, layouts), choice.algorithm
    else:
        judging = _judging(counting, counting.images, candidates.plan, correction, candidates.residual_db)
        judging = replace(judging, begin=counting.place.begin)
        taken = best_by_outputs(histograms, judging, inputs.progress)
        taken.judged.save(out / JUDGED)
        found, algorithm = taken.ranges, algorithm_of(taken.judged.taken)
        quantizing_it = Quantizing(
            counting.model, taken.made.plan, found, counting.images if candidates.bias_correction else None,
            candidates.bias_correction, WeightOptions(), counting.batch, candidates.affine, counting.max_bad,
            counting.threads, inputs.state, inputs.progress,
        )  # fmt: skip
        key = quantizing(quantizing_it).key
        judged_model.keep(inputs.state, taken.made.model, key, affine=candidates.affine)
    write_json(out / RANGES, found.to_json())
    write_cache(out, found, inputs.owner, algorithm)


def histograms_key(counting: Counting) -> str:
    """What histograms are marked with: what they were counted from, and by which versions."""
    return digest([counting, chosen_versions(*NUMBERS)])


def _histograms(inputs: Calibrating) -> dict[str, Histogram]:
    counting, key = inputs.counting, histograms_key(inputs.counting)
    name, source, batch = counting.model.input_name, counting.images.source, counting.batch
    if inputs.spreading is not None:
        return calibrate_in_pieces(inputs.spreading, counting.model.proto, source, inputs.state, key, inputs.progress)
    names = feed_names(source, [entry.name for entry in counting.model.inputs])
    calibrator = inputs.choice.kind(lambda: feeds(source, name, batch, max_bad=counting.max_bad), batch)
    wanted = Pass(
        counting.model.proto,
        counting.tensors,
        lambda: calibrator_feeds(calibrator, names),
        len(source),
        counting.needed,
        counting.threads,
        counting.place.begin,
    )
    return calibrate(wanted, inputs.state, key, inputs.progress)


def _judging(
    inputs: "Counting | Quantizing", images: Images, plan: Plan, correction: Correction | None, residual_db: float = 0.0
) -> Judging:
    indices, apart = judged_samples(len(images.source))
    judged = some(images.source, indices)
    name, batch, max_bad = inputs.model.input_name, inputs.batch, inputs.max_bad
    return Judging(
        inputs.model.proto, plan, lambda: feeds(judged, name, batch, max_bad=max_bad), len(judged), correction, apart,
        residual_db, inputs.threads,
    )  # fmt: skip


def _correction(inputs: "Counting | Quantizing", images: Images) -> Correction:
    few = at_most(images.source, BIAS_IMAGES)
    name, batch, max_bad = inputs.model.input_name, inputs.batch, inputs.max_bad
    return Correction(lambda: feeds(few, name, batch, max_bad=max_bad), len(few), inputs.threads)


def taking_cache(inputs: TakingCache) -> Stage[TakingCache]:
    """calibration.cache, whoever wrote it, to ranges.json."""
    return Stage("calibrate", inputs, chosen_versions(), _take_cache)


def _take_cache(inputs: TakingCache, out: Path) -> None:
    write_json(out / RANGES, given_ranges(inputs.cache).to_json())


def read_ranges(folder: Path) -> Ranges:
    """The ranges that the calibrate stage left in `folder`."""
    return Ranges.from_json(read_object(folder / RANGES))


def quantizing(inputs: Quantizing) -> Stage[Quantizing]:
    """Plan and ranges to model.qdq.onnx and model.ort.onnx."""
    versions = chosen_versions(*NUMBERS, "onnx-graphsurgeon")
    return Stage("quantize", inputs, versions, _quantize, after=("calibrate",))


def _quantize(inputs: Quantizing, out: Path) -> None:
    if judged_model.take(inputs.state, quantizing(inputs).key, out):
        return
    few = _correction(inputs, inputs.images) if inputs.images is not None else None
    correction, rounding = None, None
    if few is not None and inputs.corrected:
        correction = replace(few, sweeps=inputs.weights.bias_sweeps)
    if few is not None and inputs.weights.adaptive:
        rounding = Rounding(few.feeds, few.images, few.threads)
    if inputs.images is not None and rounding is not None and inputs.weights.judged:
        plain = few if inputs.corrected else None
        judging = _judging(inputs, inputs.images, inputs.plan, plain)
        done = fully_quantized(judging, inputs.ranges, inputs.weights, rounding, inputs.progress)
    else:
        done = carry_out(
            inputs.model.proto, inputs.plan, inputs.ranges, correction,
            weights=WeightWork(inputs.weights.scales, rounding), progress=inputs.progress,
        )  # fmt: skip
    if done.rounding is not None:
        done.rounding.save(out / ROUNDING)
    save_pair(done.model, out, affine=inputs.affine)


def evaluating(inputs: Measuring) -> Stage[Measuring]:
    """Both models on the evaluation images to evaluation.json."""
    return Stage("evaluate", inputs, chosen_versions(*NUMBERS), _evaluate, after=("quantize",))


def _evaluate(inputs: Measuring, out: Path) -> None:
    layers, sharing = layers_of(inputs), sharing_of(inputs)
    pair = sessions(inputs, sharing.threads)
    found = measure(inputs, pair, layers, sharing)
    write_json(out / PICTURES, pictures_of(inputs, found, pair))
    if inputs.latency:
        if sharing.batches > 1:
            del pair  # of a large model no four networks lie beside each other
            pair = sessions(inputs, inputs.threads)
        found = found.model_copy(update={"latency": latency_of(inputs, pair)})
    found.save(out / EVALUATION)


def output_of(record: StageRecord, name: str, folder: Path) -> FileRef:
    """The file `name` that a finished stage left in `folder`."""
    found = next(output for output in record.outputs if output.path == name)
    return FileRef(found.sha256, folder / name)
