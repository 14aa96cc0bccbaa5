"""A float model to a Q/DQ model by a calibrator or by ranges, and its onnxruntime twin."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from quantbench.calibration.collect import Begin, on_cpu
from quantbench.calibration.ort_outputs import Feed, first_feeds
from quantbench.calibration.ranges import Ranges
from quantbench.calibrator import Calibrator, feeds
from quantbench.core.drive import calibrate_with
from quantbench.graph.half import detach
from quantbench.graph.onnx_view import view_of
from quantbench.graph.save import save_model
from quantbench.qdq.affine import affine_activations
from quantbench.qdq.carry_out import Correction, carry_out
from quantbench.qdq.integer_activation import activations_on_integers, on_u8
from quantbench.qdq.integer_forms import integer_forms
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.qdq.record import recorded
from quantbench.qdq.reencode import to_u8_activations
from quantbench.runnable import runnable_part, view_to_quantize

QDQ_MODEL = "model.qdq.onnx"
ORT_MODEL = "model.ort.onnx"
# Mean errors settle after few images; more only cost time (measured on EfficientNet-Lite0: 32 and 256 agree to 0.1 dB).
BIAS_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A Q/DQ model and what went into it."""

    model: onnx.ModelProto
    plan: Plan
    ranges: Ranges


def quantize_with(
    model: onnx.ModelProto, by: Calibrator | Ranges, options: PlacementOptions | None = None, *, begin: Begin = on_cpu
) -> Calibrated:
    """`model` quantized by the rules with ranges that are given, or by a calibrator that brings images or a cache.

    A calibrator's images correct the biases, too; `begin`: where they are counted. Raises QuantbenchError where nothing
    can be quantized, or the calibrator's batches or cache do not fit the model.
    """
    options = options or PlacementOptions()
    plan = place(view_to_quantize(model), options)
    if isinstance(by, Ranges):
        # Ranges from elsewhere may reach behind plugins that cannot be run here.
        reached = place(view_of(model), options)
        plan = reached if all(name in by for name in reached.tensors) else plan
    correction = None
    if isinstance(by, Calibrator):
        from_cache = by.read_calibration_cache() is not None
        ranges = calibrate_with(model, by, plan.tensors, begin=begin)
        correction = None if from_cache else Correction(lambda: _first_feeds(model, by), BIAS_IMAGES)
    else:
        ranges = by
    done = carry_out(model, plan, ranges, correction, residual_db=options.residual_db)
    return Calibrated(done.model, done.plan, ranges)


def _first_feeds(model: onnx.ModelProto, calibrator: Calibrator) -> Iterator[Feed]:
    stored = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in stored]
    return first_feeds(feeds(calibrator, names), BIAS_IMAGES)


def save_pair(model: onnx.ModelProto, folder: Path, *, affine: bool | None = None) -> None:
    """Write the Q/DQ `model` as model.qdq.onnx and model.ort.onnx into `folder`; the latter ends before plugins that
    onnxruntime cannot run."""
    save_model(model, folder / QDQ_MODEL)
    save_model(for_onnxruntime(runnable_part(model), affine=affine), folder / ORT_MODEL)


def for_onnxruntime(model: onnx.ModelProto, *, affine: bool | None = None) -> onnx.ModelProto:
    """The same numbers in the form that onnxruntime's CPU kernels are fast on; its float parts are FP32. With `affine`
    better ones: activations that cannot get far below zero have all 256 levels (`quantbench.qdq.affine`), and what has
    no integer kernel is written so that it has (`quantbench.qdq.integer_forms`). None: if `model` was placed for it.
    """
    if affine is None:
        affine = recorded(model).integer
    if affine:
        result = activations_on_integers(integer_forms(to_u8_activations(affine_activations(model))))
    else:
        result = on_u8(model)
    detach(result)
    return result
