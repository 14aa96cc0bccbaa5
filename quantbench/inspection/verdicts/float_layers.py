"""Layers that stay in float in a network that wants INT8, and why."""

from collections import Counter

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.scales import missing_tensors, rejected
from quantbench.inspection.verdicts.verdict import Item, Verdict, runs, short
from quantbench.layers.categories import FLOAT, QUANTIZED, is_leftover_qdq, is_weighted, precision, weight_dtype
from quantbench.layers.layer import Layer
from quantbench.layers.names import split_parts

# Reasons that a Q/DQ pair or a range would mend.
_BARE = ("no Q/DQ feeds it", "no scale", "no DQ feeds it")


def judge(inspection: Inspection) -> list[Verdict]:
    """One verdict over the weighted layers that read float."""
    build = inspection.build
    missing, refused = missing_tensors(inspection), rejected(inspection)
    if not (inspection.quantized or missing or refused or (build is not None and build.scales)):
        return []
    floats = [x for x in inspection.layers if is_weighted(x) and precision(x) in FLOAT]
    if not floats:
        return []
    items = [
        Item(short(x), f"runs in {precision(x)}: {_why(x, inspection, missing, refused)}", x.time_ms) for x in floats
    ]
    return [
        Verdict(
            "float_layers", "cost", f"{runs(len(floats), 'weighted layer')} in float",
            "They carry no Q/DQ, have no scale, or no INT8 kernel was faster.",
            _advice(inspection, floats, items), tuple(items),
        )
    ]  # fmt: skip


def _advice(inspection: Inspection, layers: list[Layer], items: list[Item]) -> str:
    floats = len(layers)
    weighted = [layer.type for layer in inspection.layers if is_weighted(layer)]
    if "FusedConv" in weighted and 2 * floats > len(weighted):
        return (
            "onnxruntime fuses little of the Q/DQ that TensorRT wants: build from the model.ort.onnx that quantbench "
            "ptq writes (U8 activations, integer ReLU)."
        )
    if "QLinearConv" in weighted:
        return "quantbench ptq --for-onnxruntime quantizes heads, sums and SiLU too: more layers become integer."
    bare = sum(any(word in item.detail for word in _BARE) for item in items)
    if not bare:
        return "Their Q/DQ or scales are there: compare the times of their kernels, INT8 may simply be slower here."
    which = "their" if bare == floats else f"{bare} of their"
    return f"Quantize {which} inputs and weights, unless accuracy wants them in float."


def _why(layer: Layer, inspection: Inspection, missing: dict[str, int], refused: dict[str, list[str]]) -> str:
    for part in (layer.name, *split_parts(layer.name), *layer.nodes):
        if part in refused:
            return f"INT8 was rejected, no scale for {', '.join(refused[part])}"
    without = [t.name for t in (*layer.inputs, *layer.outputs) if t.name in missing]
    if without:
        return f"no scale for tensor {', '.join(without)} (line {missing[without[0]]})"
    if weight_dtype(layer) in QUANTIZED:
        return "its weights are INT8, its input is not: no DQ feeds it"
    scales = inspection.build.scales if inspection.build is not None else {}
    if layer.inputs and layer.inputs[0].name in scales:
        return "its input has a scale, so INT8 was allowed: no INT8 kernel was faster"
    makers = inspection.flow.before(layer)
    leftover = [m.name for m in makers if is_leftover_qdq(m) and m.inputs and m.inputs[0].dtype in QUANTIZED]
    if leftover:
        return f"its DQ ({', '.join(leftover)}) runs as a layer of its own before it"
    given = Counter(t.dtype for m in makers for t in m.outputs)
    if any(dtype in QUANTIZED for dtype in given):
        return "its input is converted from INT8 before it"
    if any("DequantizeLinear" in node for node in layer.nodes):
        return "its Q/DQ are inside the layer, yet the kernel chosen computes in float"
    return "no Q/DQ feeds it" if not scales else "its input has no scale in the log"
