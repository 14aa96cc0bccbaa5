"""The figures that a reader wants first."""

from quantbench.records.evaluation import Measured
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Block, Cards, Section
from quantbench.report.figures import is_for_cpu
from quantbench.report.words import behind, size


def section(run: PtqRun) -> Section:
    """Cards: agreement (or accuracy, or boxes found again), SQNR, INT8 layers, speed where it is for this CPU, size."""
    result, placement = run.evaluation, run.placement
    outputs = result.outputs
    cards = [
        *_change("top-1", outputs.top1_float, outputs.top1_int8, outputs.top1_change),
        *_change("mAP50-95", outputs.map_float, outputs.map_int8, outputs.map_change),
        *_change("mIoU", outputs.miou_float, outputs.miou_int8, outputs.miou_change),
    ]
    if outputs.boxes_kept is not None:
        kept = outputs.boxes_kept
        cards.append((f"{100 * kept.value:.1f} %", "of FP32's boxes found by INT8", behind(kept)))
    if outputs.agreement is not None:
        share = outputs.agreement
        cards.append((f"{100 * share.value:.1f} %", "same answer as FP32", behind(share)))
    if outputs.sqnr_db is not None:
        sqnr = outputs.sqnr_db
        several = ", the worst one" if len(result.parts) > 1 else ""
        cards.append((f"{sqnr.value:.1f} dB", f"signal to quantization noise at the output{several}", behind(sqnr)))
    cards.append(
        (f"{len(placement.quantized)} of {len(placement.weighted)}", "weighted layers quantized", "Q/DQ model")
    )
    if result.latency is not None and is_for_cpu(run):
        ratio = result.latency.plain.median_ms / result.latency.int8.median_ms
        cards.append((f"{ratio:.2f} x", "speed on this CPU, INT8 against FP32", "onnxruntime, median"))
    cards.append((size(result.sizes.onnxruntime), "INT8 model", f"from {size(result.sizes.plain)}"))
    blocks: tuple[Block, ...] = (Cards(tuple(cards)),)
    return Section("", blocks)


def _change(
    what: str, plain: Measured | None, int8: Measured | None, change: Measured | None
) -> list[tuple[str, str, str]]:
    if plain is None or int8 is None or change is None:
        return []
    text = f"{100 * plain.value:.1f} % to {100 * int8.value:.1f} %, {behind(change)}"
    return [(f"{100 * change.value:+.1f} points", f"{what}, INT8 against FP32", text)]
