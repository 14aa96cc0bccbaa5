"""Adaptive rounding and mse weight scales beside plain rounding, on trained networks and held-out data.

Run: python -m scripts.compare_rounding OUT [--only NAME …] [--images 64] [--assets DIR], then the same with --table for
the Markdown of docs/accuracy.md. OUT gets one JSON a network; what is there is not done again. Thresholds are mse, SQNR
is that of the worst output. "Weights alone": the float network with the INT8 weights.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from quantbench.atomic import write_json
from quantbench.calibration.collect import collect
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.ort_outputs import Feed, static_batch
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.quantize import BIAS_IMAGES, for_onnxruntime
from quantbench.evaluate.outputs import measures_of
from quantbench.graph.load import load_model
from quantbench.graph.surgery import copied
from quantbench.qdq.adaptive_rounding import Rounding
from quantbench.qdq.carry_out import Correction, WeightWork, carry_out
from quantbench.qdq.options import FULL_BIAS_SWEEPS, PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.quantized_layers import quantized_layers
from quantbench.qdq.simulate import dequantized
from quantbench.qdq.tensors import calibrated_tensors
from quantbench.qdq.weights import quantize_weight
from quantbench.runnable import view_to_quantize
from scripts.compare_models import compared
from scripts.compared_networks import Case, asked_for, made, parser_of

THREADS = 2
VARIANTS = (
    "nearest",
    "adaptive",
    "mse scales",
    "nearest, 4 sweeps",
    "nearest, no correction",
    "adaptive, no correction",
)


def rows(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """(variant, what it came to) of each."""
    model = load_model(case.path)
    name, size = model.graph.input[0].name, static_batch(model) or case.batch

    def feeds(images: int = len(case.calibration)) -> list[Feed]:
        return [{name: case.calibration[i : min(i + size, images)]} for i in range(0, images, size)]

    options = PlacementOptions()
    view = view_to_quantize(model)
    plan = place(view, options)
    ranges = find_ranges(
        collect(model, feeds(), calibrated_tensors(view, plan), threads=THREADS), "mse", threshold_method("mse")
    )
    few = min(BIAS_IMAGES, len(case.calibration))
    for variant in VARIANTS:
        begin = time.process_time()
        corrected = "no correction" not in variant
        sweeps = FULL_BIAS_SWEEPS if "sweeps" in variant else 2
        made = carry_out(
            model, plan, ranges, Correction(lambda: feeds(few), few, THREADS, sweeps) if corrected else None,
            weights=WeightWork(
                "mse" if variant == "mse scales" else "max",
                Rounding(lambda: feeds(few), few, THREADS) if variant.startswith("adaptive") else None,
            ),
            residual_db=options.residual_db,
        )  # fmt: skip
        found: dict[str, Any] = {"processor_seconds": round(time.process_time() - begin, 1)}
        if made.rounding is not None:
            found["rounded"] = made.rounding.in_words()
        found["db"] = sqnr(case, for_onnxruntime(made.model))
        if not corrected:
            found["weights_alone_db"] = sqnr(case, with_weights_of(model, made.model))
        yield variant, found


def with_weights_of(model: onnx.ModelProto, quantized: onnx.ModelProto) -> onnx.ModelProto:
    """The float network with the INT8 weights of `quantized`."""
    result = copied(model)
    stored = {tensor.name: tensor for tensor in result.graph.initializer}
    for layer in quantized_layers(quantized):
        values = dequantized(quantize_weight(layer.weight, layer.scale, layer.axis), layer.scale, layer.axis)
        stored[layer.tensor].CopyFrom(numpy_helper.from_array(values.astype(layer.weight.dtype), layer.tensor))
    return result


def sqnr(case: Case, other: onnx.ModelProto) -> float:
    """dB of the worst output of `other` on the held-out data."""
    return round(measures_of(compared(case, other, threads=THREADS))["sqnr_db"].value, 2)


def main() -> None:
    """See the module."""
    given = parser_of(__doc__).parse_args()
    if given.table:
        print("| network | weights alone: nearest, adaptive | all: nearest, adaptive | mse scales | 4 sweeps |")
        print("|---|---|---|---|---|")
        for file in sorted(given.out.glob("*.json")):
            found = json.loads(file.read_text(encoding="utf-8"))
            alone = [found[f"{kind}, no correction"]["weights_alone_db"] for kind in ("nearest", "adaptive")]
            cells = [found[key]["db"] for key in ("nearest", "adaptive", "mse scales", "nearest, 4 sweeps")]
            seconds = found["adaptive"]["processor_seconds"] - found["nearest"]["processor_seconds"]
            print(
                f"| {file.stem} | {alone[0]:.1f}, {alone[1]:.1f} | {cells[0]:.1f}, {cells[1]:.1f} "
                f"({found['adaptive']['rounded']}; {np.round(seconds):.0f} s) | {cells[2]:.1f} | {cells[3]:.1f} |"
            )
        return
    for name, make, file in asked_for(given):
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if set(VARIANTS) <= set(found):
            continue
        case = made(name, make)
        if case is None:
            continue
        for variant, row in rows(case):
            found[variant] = row
            print(name, variant, row, flush=True)
        write_json(file, found)


if __name__ == "__main__":
    main()
