"""Precision requests for backends whose types come from the ONNX file: insert Q/DQ, cast to half, before the build."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx

from quantbench.calibration.collect import on_cpu
from quantbench.calibration.ranges import Ranges
from quantbench.calibrator import Calibrator
from quantbench.core.drive import calibrate_with
from quantbench.core.quantize import quantize_with
from quantbench.engines.base import BuildOptions
from quantbench.errors import QuantbenchError
from quantbench.graph.load import has_qdq, load_model
from quantbench.graph.save import save_model
from quantbench.graph.to_fp16 import to_bf16, to_fp16
from quantbench.qdq.place import place
from quantbench.qdq.tensors import calibrated_tensors
from quantbench.runnable import view_to_quantize

# What TensorRT's own calibrators compute, as quantbench calls it.
_TENSORRT_METHODS = {
    "ENTROPY_CALIBRATION_2": "entropy",
    "ENTROPY_CALIBRATION": "entropy",
    "MINMAX_CALIBRATION": "minmax",
    "LEGACY_CALIBRATION": "legacy",
}
_HALF = {"fp16", "bf16", "best"}


@contextlib.contextmanager
def prepared(model: Path, options: BuildOptions) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield (ONNX file to build, notes on what was changed); `model` itself where nothing has to be.

    int8 of a model without Q/DQ needs `options.ranges` or `options.calibrator`: quantbench's own rules place Q/DQ.
    fp16, bf16 and best cast the float parts. Raises QuantbenchError where int8 has neither, or both halves are asked.
    """
    if {"fp16", "bf16"} <= options.precisions:
        raise QuantbenchError("--precision fp16 and bf16 exclude each other where types come from the ONNX file")
    if not options.precisions & (_HALF | {"int8"}):
        yield model, ()
        return
    loaded = load_model(model)
    changed, notes = edit(loaded, options, str(model))
    if not notes:
        yield model, ()
        return
    with tempfile.TemporaryDirectory(prefix="quantbench-") as scratch:
        file = Path(scratch) / model.name
        save_model(changed, file)
        yield file, notes


def edit(model: onnx.ModelProto, options: BuildOptions, name: str) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model that carries `options.precisions` in itself, and a sentence for each change."""
    notes = []
    wanted = options.precisions
    if not has_qdq(model) and wanted & {"int8", "best"}:
        quantized = _quantized(model, options)
        if quantized is not None:
            model, count = quantized
            notes.append(f"INT8: quantbench placed Q/DQ on {count} tensors")
        elif "int8" in wanted:
            raise QuantbenchError(
                f"{name} has no Q/DQ and no ranges were given: INT8 needs --calib-dir, --ranges, or a Q/DQ model "
                f"from quantbench ptq"
            )
    if "bf16" in wanted:
        model = to_bf16(model)
        notes.append("BF16: float parts cast in the ONNX")
    elif wanted & {"fp16", "best"}:
        model = to_fp16(model)
        notes.append("FP16: float parts cast in the ONNX")
    return model, tuple(notes)


def with_own_thresholds(model: Path, options: BuildOptions) -> BuildOptions:
    """Ranges in place of a calibrator whose rule TensorRT 10 and older do not know; else `options` as they are.

    TensorRT computes thresholds itself, by its calibrator's algorithm. A class with a `threshold` or `method` of its
    own (percentile, mse) is therefore run by quantbench, and TensorRT gets dynamic ranges.
    """
    calibrator = options.calibrator
    if options.ranges is not None or not isinstance(calibrator, Calibrator):
        return options
    own_rule = type(calibrator).threshold is not Calibrator.threshold
    if not own_rule and calibrator.method == _TENSORRT_METHODS[calibrator.get_algorithm()]:
        return options
    loaded = load_model(model)
    if has_qdq(loaded):
        return options
    view = view_to_quantize(loaded)
    ranges = calibrate_with(loaded, calibrator, calibrated_tensors(view, place(view)), begin=options.begin or on_cpu)
    return replace(options, ranges=ranges, calibrator=None)


def _quantized(model: onnx.ModelProto, options: BuildOptions) -> tuple[onnx.ModelProto, int] | None:
    by = options.ranges if options.ranges is not None else options.calibrator
    if not isinstance(by, (Ranges, Calibrator)):
        return None
    done = quantize_with(model, by, begin=options.begin or on_cpu)
    return done.model, len(done.plan.tensors)
