"""`quantbench.quantize`: a float model and calibration data to a Q/DQ model, without a run folder."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast, get_args

import onnx

from quantbench.api.feeds import Feeds
from quantbench.api.html import shown
from quantbench.api.words import in_words_of_python
from quantbench.atomic import write_json
from quantbench.calibration.collect import collect, usable
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.ort_outputs import Feed, images_of, static_batch
from quantbench.calibration.ranges import Ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.auto import best_by_outputs
from quantbench.core.bench import JUDGED, Judging
from quantbench.core.fold_by_outputs import JUDGED as FOLDS_JUDGED
from quantbench.core.fold_by_outputs import SEEN, Foldable, fold_by_outputs, fold_samples
from quantbench.core.qdq_or_not import refuse_quantized
from quantbench.core.quantize import BIAS_IMAGES, ORT_MODEL, QDQ_MODEL, for_onnxruntime
from quantbench.core.signal import rows_of
from quantbench.errors import QuantbenchError
from quantbench.folding.options import FoldOptions
from quantbench.graph.load import load_model, prepared_model
from quantbench.graph.save import save_model
from quantbench.graph.surgery import copied
from quantbench.graph.to_fp16 import as_it_came
from quantbench.predict.best import best_placement
from quantbench.ptq.calibrate_on import place_of
from quantbench.ptq.calibrator_choice import Choice, choose
from quantbench.ptq.range_warnings import range_warnings
from quantbench.qdq.adaptive_rounding import Rounding
from quantbench.qdq.carry_out import Correction, WeightWork, carry_out
from quantbench.qdq.layouts import layouts_for
from quantbench.qdq.options import ROUNDINGS, WEIGHT_SCALES, PlacementOptions, WeightScales
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.qdq.tensors import calibrated_tensors
from quantbench.records.folded import Folded, Mode
from quantbench.records.judged import Judged
from quantbench.runnable import runnable_part, told, view_to_quantize


@dataclass(frozen=True, repr=False)
class Quantized:
    """A quantized model. `model`: explicit Q/DQ, symmetric INT8, for TensorRT. `for_onnxruntime`: the same numbers in
    the form that onnxruntime's CPU kernels are fast on. `plan`: where Q/DQ stands and what stays float, why.
    `ranges`: amax of each calibrated tensor. `warnings`: what a user should look at. `judged`: what calibrator auto
    chose among. `folded`: what equalization and SmoothQuant did."""

    model: onnx.ModelProto
    for_onnxruntime: onnx.ModelProto
    plan: Plan
    ranges: Ranges
    warnings: tuple[str, ...] = ()
    judged: Judged | None = None
    folded: Folded | None = None

    def save(self, folder: str | Path) -> Path:
        """Write model.qdq.onnx, model.ort.onnx and ranges.json into `folder`; returns it as a Path."""
        target = Path(folder)
        save_model(self.model, target / QDQ_MODEL)
        save_model(self.for_onnxruntime, target / ORT_MODEL)
        write_json(target / "ranges.json", self.ranges.to_json())
        return target

    def __repr__(self) -> str:
        return f"<Quantized: {self._summary()}>"

    def _repr_html_(self) -> str:
        rows = [(node, why) for node, why in self.plan.kept_float.items()]
        return shown(f"Quantized: {self._summary()}", ("kept in float", "why"), rows, self.warnings)

    def _summary(self) -> str:
        layers, kept = len({site.node for site in self.plan.weights}), len(self.plan.kept_float)
        return f"{layers} layers in INT8, {kept} kept in float, Q/DQ on {len(self.plan.tensors)} tensors"


@in_words_of_python
def quantize(
    model: str | Path | onnx.ModelProto,
    data: Any,
    *,
    calibrator: str = "auto",
    placement: PlacementOptions | str = "rules",
    bias_correction: bool = True,
    rounding: str = "nearest",
    weight_scales: WeightScales = "max",
    equalize: Mode = "auto",
    smooth: Mode = "auto",
    keep_float: Iterable[str] = (),
    preprocess: str | Mapping[str, Any] | None = None,
    max_images: int = 512,
    threads: int = 0,
    device: str = "cpu",
) -> Quantized:
    """Calibrate and quantize a float model.

    `model`: an ONNX file, or a ModelProto (left as it is). `data`: a folder of images or arrays, or an iterable of
    batches: dicts of arrays by input name, arrays, or a torch DataLoader. `calibrator`: auto (mse over the samples with
    signal, or minmax, judged by the outputs), mse, minmax, entropy, percentile:99.99, … or `path/to/file.py:Class`.
    `placement`: "rules", "best" (the variant that the predictor finds cheapest), or PlacementOptions. `rounding` of
    weights: nearest, or adaptive: in the worst layers for the layer's output, on the first of the data. `weight_scales`
    of a channel: max, or mse. `equalize`, `smooth`: cross-layer equalization and SmoothQuant, auto (where the
    outputs are nearer for them), on or off. `keep_float`: names or patterns (fnmatch) of nodes. `preprocess`: of a
    folder's images, a preset or a declaration. `device` that tensors are counted on: cpu, cuda or cuda:N
    (docs/performance.md).

    Raises QuantbenchError for a model that is quantized already or cannot be, and data that does not fit.
    """
    for name, word, known in (("rounding", rounding, ROUNDINGS), ("weight_scales", weight_scales, WEIGHT_SCALES)):
        if word not in known:
            raise QuantbenchError(f"{name} {word!r} is neither {' nor '.join(known)}")
    begin = place_of(device).begin
    proto = _loaded(model)
    options = _options(placement, keep_float)
    choice = choose(calibrator)
    view = view_to_quantize(proto)
    plan = best_placement(view, options).plan if placement == "best" else place(view, options)
    held = _Held(Feeds(proto, data, preprocess=preprocess, max_images=max_images))
    fold = FoldOptions(_mode("equalize", equalize), _mode("smooth", smooth))
    folded = None
    if fold.asked:
        given = _foldable(proto, plan, held, choice, (options, bias_correction, threads))
        proto, folded = fold_by_outputs(replace(given, begin=begin), fold)
    histograms = collect(proto, held, calibrated_tensors(view, plan), threads=threads, begin=begin)
    good, broken = usable(histograms, plan.tensors)
    correction = Correction(lambda: held.first, _count_of(held.first), threads) if bias_correction else None
    judged, done = None, None
    if choice.is_auto:
        taken = best_by_outputs(good, replace(_judging(proto, plan, held, options, correction), begin=begin))
        ranges, judged = taken.ranges, taken.judged
        done = taken.made if (rounding, weight_scales) == (ROUNDINGS[0], WEIGHT_SCALES[0]) else None
    else:
        layouts = layouts_for(proto, plan, good, correction)
        ranges = find_ranges(good, choice.method, choice.threshold, layouts)
    if done is None:
        adaptive = Rounding(lambda: held.first, _count_of(held.first), threads) if rounding == "adaptive" else None
        done = carry_out(
            proto, plan, ranges, correction, weights=WeightWork(weight_scales, adaptive),
            residual_db=options.residual_db,
        )  # fmt: skip
    cut = told(proto)
    notes = (*([cut] if cut else []), *_told(broken, done.left_float), *range_warnings(ranges))
    onnxruntime = for_onnxruntime(runnable_part(done.model))
    return Quantized(as_it_came(done.model), onnxruntime, done.plan, ranges, notes, judged, folded)


class _Held:
    """Feeds that are walked once, of which the first are kept, for bias correction reads these again, and a few that
    come later, for `auto` to judge on."""

    def __init__(self, feeds: Feeds) -> None:
        self._rest = iter(feeds)
        self._ahead: list[Feed] = []
        self.first: list[Feed] = []
        self.later: list[Feed] = []

    def ahead(self, count: int) -> list[Feed]:
        """The first feeds until they hold `count` samples; they are walked with the others all the same."""
        while _count_of(self._ahead) < count and (feed := next(self._rest, None)) is not None:
            self._ahead.append(feed)
        return self._ahead

    def __iter__(self) -> Iterator[Feed]:
        for feed in chain(self._ahead, self._rest):
            if _count_of(self.first) < BIAS_IMAGES:
                self.first.append(feed)
            elif _count_of(self.later) < JUDGED:
                self.later.append(feed)
            yield feed


def _count_of(feeds: Iterable[Feed]) -> int:
    """Samples in `feeds`."""
    return sum(images_of(feed) for feed in feeds)


def _mode(name: str, given: str) -> Mode:
    if given not in get_args(Mode):
        raise QuantbenchError(f"{name} {given!r} is none of {', '.join(get_args(Mode))}")
    return cast(Mode, given)


def _foldable(
    model: onnx.ModelProto, plan: Plan, held: _Held, choice: Choice, how: tuple[PlacementOptions, bool, int]
) -> Foldable:
    options, corrected, threads = how
    ahead, size = held.ahead(SEEN + FOLDS_JUDGED), static_batch(model)
    # A static batch is run whole.
    count, each = (len(ahead), size) if size > 1 else (_count_of(ahead), 1)

    def opened(indices: Sequence[int]) -> Callable[[], Iterable[Feed]]:
        return lambda: [ahead[index] for index in indices] if size > 1 else rows_of(ahead, indices)

    threshold = threshold_method("mse") if choice.is_auto else choice.threshold
    return Foldable(
        model, view_to_quantize(model), plan, fold_samples(count, opened, each=each), threshold, corrected,
        options.residual_db, threads,
    )  # fmt: skip


def _judging(
    model: onnx.ModelProto, plan: Plan, held: _Held, options: PlacementOptions, correction: Correction | None
) -> Judging:
    """Judged on what comes after the samples that correct biases, or on these where there is little else."""
    judged, apart = (held.later, True) if _count_of(held.later) >= JUDGED // 2 else (held.first, False)
    threads = correction.threads if correction is not None else 0
    return Judging(model, plan, lambda: judged, _count_of(judged), correction, apart, options.residual_db, threads)


def _loaded(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    proto = prepared_model(copied(model), "model") if isinstance(model, onnx.ModelProto) else load_model(Path(model))
    refuse_quantized(proto, "model" if isinstance(model, onnx.ModelProto) else str(model))
    return proto


def _options(placement: PlacementOptions | str, keep_float: Iterable[str]) -> PlacementOptions:
    if isinstance(placement, str) and placement not in ("rules", "best"):
        raise QuantbenchError(f"placement {placement!r} is neither 'rules', 'best' nor PlacementOptions")
    patterns = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    base = placement if isinstance(placement, PlacementOptions) else PlacementOptions()
    return replace(base, keep_float=(*base.keep_float, *patterns))


def _told(broken: Iterable[str], poor: Mapping[str, float]) -> Iterator[str]:
    for name in broken:
        yield f"{name} reached infinity or NaN and has no range"
    for name, value in poor.items():
        yield f"{name} stays float: outliers leave most of its values {value:.1f} dB above the noise"
