"""The layout of the integers of each tensor of a Plan, before its thresholds are searched.

Symmetric for TensorRT. Placed for onnxruntime, a tensor gets the lower end that operators tell and calibration images
show (`affine.py`, `lowest.py`); neither hangs on thresholds, but for what clipping elsewhere takes away. So the Plan is
carried out with the whole range of each tensor, and that model is asked.
"""

import math
from collections.abc import Mapping

import onnx

from quantbench.calibration.find_ranges import ALL_SYMMETRIC, Layouts
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.qdq.affine import layouts_of
from quantbench.qdq.carry_out import Correction
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.lowest import note_lowest, write_lowest
from quantbench.qdq.plan import Plan


def layouts_for(
    model: onnx.ModelProto, plan: Plan, histograms: Mapping[str, Histogram], correction: Correction | None
) -> Layouts:
    """Layouts of the tensors of `plan`, those that are not symmetric; `correction`: the result's own, on whose images
    the least values are seen (None: operators tell what there is to know)."""
    if not plan.for_onnxruntime:
        return ALL_SYMMETRIC
    whole = Ranges({name: TensorRange(histogram.amax) for name, histogram in histograms.items()})
    quantized = insert_qdq(model, plan, whole)
    if correction is not None:
        note_lowest(quantized, correction.feeds, threads=correction.threads)
    return layouts_of(quantized)


def note_layouts(model: onnx.ModelProto, layouts: Layouts) -> None:
    """Let the Q/DQ `model`, in place, be laid out as `layouts` have it where it becomes onnxruntime's."""
    lows = {name: layout.low for name, layout in layouts.items() if math.isfinite(layout.low)}
    if lows:
        write_lowest(model, lows)
