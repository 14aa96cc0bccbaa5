"""FP32 against INT8 on the same images."""

from collections.abc import Mapping
from typing import Any

from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.words import decibel, percent, points

_ROWS = (
    ("agreement", "Same argmax as FP32", percent),
    ("top1_float", "Top-1, FP32", percent),
    ("top1_int8", "Top-1, INT8", percent),
    ("top1_change", "Change of top-1", points),
    ("top5_float", "Top-5, FP32", percent),
    ("top5_int8", "Top-5, INT8", percent),
    ("sqnr_db", "SQNR of the outputs", decibel),
)


def section(run: Mapping[str, Any]) -> Section:
    """A table of what was measured, each with its 95 % interval and the number of images."""
    outputs = run["evaluation_result"]["outputs"]
    rows = tuple(
        (title, show(outputs[key]), str(outputs[key]["images"])) for key, title, show in _ROWS if key in outputs
    )
    blocks: list[Block] = [
        Text(f"Measured on {run['evaluation']['images']} images: {run['evaluation']['what']}. Both models ran in "
             f"onnxruntime; in brackets the 95 % interval.")
    ]  # fmt: skip
    if "calibration images themselves" in run["evaluation"]["what"]:
        blocks.append(Text("These images also set the ranges, so expect a little less on new ones.", "warning"))
    blocks.append(Table(("Measure", "Value", "Images"), rows))
    return Section("Accuracy", tuple(blocks))
