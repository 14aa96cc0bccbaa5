"""The figures that a reader wants first."""

from collections.abc import Mapping
from typing import Any

from quantbench.report.blocks import Block, Cards, Section
from quantbench.report.words import behind, size


def section(run: Mapping[str, Any]) -> Section:
    """Cards: agreement (or accuracy, or boxes found again), SQNR, speed, INT8 layers, size."""
    result = run["evaluation_result"]
    outputs = result["outputs"]
    cards: list[tuple[str, str, str]] = []
    if "top1_change" in outputs:
        change = outputs["top1_change"]
        cards.append(
            (
                f"{100 * change['value']:+.1f} points",
                "top-1, INT8 against FP32",
                f"{100 * outputs['top1_float']['value']:.1f} % to {100 * outputs['top1_int8']['value']:.1f} %, "
                f"{change['images']} images",
            )
        )
    if "map_change" in outputs:
        change = outputs["map_change"]
        cards.append(
            (
                f"{100 * change['value']:+.1f} points",
                "mAP50-95, INT8 against FP32",
                f"{100 * outputs['map_float']['value']:.1f} % to {100 * outputs['map_int8']['value']:.1f} %, "
                f"{behind(change)}",
            )
        )
    if "boxes_kept" in outputs:
        kept = outputs["boxes_kept"]
        cards.append((f"{100 * kept['value']:.1f} %", "of FP32's boxes found by INT8", behind(kept)))
    if "agreement" in outputs:
        share = outputs["agreement"]
        cards.append((f"{100 * share['value']:.1f} %", "same answer as FP32", f"{share['images']} images"))
    if "sqnr_db" in outputs:
        sqnr = outputs["sqnr_db"]
        several = " (the worst one)" if len(result["sqnr"]) > 1 else ""
        cards.append((f"{sqnr['value']:.1f} dB", f"signal to quantization noise at the output{several}", behind(sqnr)))
    placement = run["placement"]
    cards.append(
        (f"{len(placement['quantized'])} of {len(placement['weighted'])}", "weighted layers quantized", "Q/DQ model")
    )
    if "latency" in result:
        latency = result["latency"]
        ratio = latency["float"]["median_ms"] / latency["int8"]["median_ms"]
        cards.append((f"{ratio:.2f} x", "speed on this CPU, INT8 against FP32", "onnxruntime, median"))
    cards.append((size(result["bytes"]["onnxruntime"]), "INT8 model", f"from {size(result['bytes']['float'])}"))
    blocks: tuple[Block, ...] = (Cards(tuple(cards)),)
    return Section("", blocks)
