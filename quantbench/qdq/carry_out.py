"""Plan and Ranges to a Q/DQ model: the one way that `ptq`, `build`, `cache to-qdq`, `sweep` and Python share."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import onnx

from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.ranges import Ranges
from quantbench.errors import QuantbenchError
from quantbench.graph.surgery import check
from quantbench.progress import PASSES, Progress
from quantbench.qdq.adaptive_rounding import Rounded, Rounding, planned_images, round_adaptively
from quantbench.qdq.affine import affine_activations
from quantbench.qdq.correct_bias import correct_bias, planned
from quantbench.qdq.guard import guarded
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.lowest import note_lowest
from quantbench.qdq.options import BIAS_SWEEPS, WeightScales
from quantbench.qdq.plan import Plan
from quantbench.qdq.record import record
from quantbench.qdq.reencode import with_int8_weights
from quantbench.records.rounding import RoundingFacts


@dataclass(frozen=True, slots=True)
class Correction:
    """Calibration images that biases are corrected on: `feeds` opens them from the beginning, `images` is how many;
    `sweeps` over them."""

    feeds: Callable[[], Iterable[Feed]]
    images: int = 0
    threads: int = 0
    sweeps: int = BIAS_SWEEPS


@dataclass(frozen=True, slots=True)
class WeightWork:
    """How weights become INT8: `scales` of the largest value or the least squared error; `rounding`: those of the worst
    layers are rounded for their outputs first (`quantbench.qdq.adaptive_rounding`); `stored`: the model holds them
    quantized."""

    scales: WeightScales = "max"
    rounding: Rounding | None = None
    stored: bool = False


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """The Q/DQ model, the plan that it carries out, the skip connections that the ranges forbade, with their dB, and
    what adaptive rounding did where it was asked for."""

    model: onnx.ModelProto
    plan: Plan
    left_float: Mapping[str, float] = field(default_factory=dict)
    rounding: RoundingFacts | None = None


def check_plan(plan: Plan) -> None:
    """Raise QuantbenchError, with the reasons, where `plan` quantizes no layer."""
    if plan.weights:
        return
    reasons = Counter(plan.kept_float.values()).most_common(2)
    why = "; ".join(f"{reason} ({count})" for reason, count in reasons)
    raise QuantbenchError(
        f"no layer can be quantized: every Conv, ConvTranspose, Gemm and MatMul is kept float{': ' if why else ''}{why}"
    )


def carry_out(
    model: onnx.ModelProto,
    plan: Plan,
    ranges: Ranges,
    correction: Correction | None = None,
    *,
    weights: WeightWork = WeightWork(),
    residual_db: float = 0.0,
    progress: Progress | None = None,
) -> CarriedOut:
    """The Q/DQ model of `plan` with `ranges` (`model` is left as it is), its biases corrected, checked in full.

    `residual_db`: skips with less signal over noise stay float (`quantbench.qdq.guard`; 0: none is judged). Raises
    QuantbenchError where nothing can be quantized, or a range is missing. The model records the plan
    (`quantbench.qdq.record`).
    """
    plan, poor = guarded(plan, ranges, residual_db)
    check_plan(plan)
    told = progress or Progress("none")
    rounded = Rounded(insert_qdq(model, plan, ranges, weight_scales=weights.scales))
    if weights.rounding is not None:
        with told.task("Adaptive rounding", planned_images(weights.rounding.images)) as advance:
            rounded = round_adaptively(rounded.model, weights.rounding, advance)
    quantized = rounded.model
    if correction is not None:
        _note(quantized, plan, correction)
        with told.task("Bias correction", planned(correction.images, correction.sweeps), PASSES) as advance:
            quantized = correct_bias(
                quantized, correction.feeds, floats=rounded.floats, run_as=_runs_as(plan), sweeps=correction.sweeps,
                threads=correction.threads, on_batch=advance,
            )  # fmt: skip
    if weights.stored:
        quantized = with_int8_weights(quantized)
    record(quantized, plan)
    check(quantized, full=True)
    return CarriedOut(quantized, plan, poor, rounded.facts)


def with_biases(made: CarriedOut, correction: Correction, progress: Progress | None = None) -> CarriedOut:
    """`made`, rounded to the nearest and its weights float, with biases corrected as `carry_out` has it; its model is
    left as it is."""
    _note(made.model, made.plan, correction)
    with (progress or Progress("none")).task(
        "Bias correction", planned(correction.images, correction.sweeps), PASSES
    ) as step:
        corrected = correct_bias(
            made.model, correction.feeds, run_as=_runs_as(made.plan), sweeps=correction.sweeps,
            threads=correction.threads, on_batch=step,
        )  # fmt: skip
    record(corrected, made.plan)
    check(corrected, full=True)
    return replace(made, model=corrected)


def _runs_as(plan: Plan) -> Callable[[onnx.ModelProto], onnx.ModelProto] | None:
    """What biases are corrected for: one that is placed for onnxruntime runs there, with all levels."""
    return affine_activations if plan.for_onnxruntime else None


def _note(quantized: onnx.ModelProto, plan: Plan, correction: Correction) -> None:
    if plan.for_onnxruntime:
        note_lowest(quantized, correction.feeds, threads=correction.threads)
