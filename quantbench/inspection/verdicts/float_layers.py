"""Layers that fell back to float in a network that wants INT8, and why."""

from collections import Counter

from quantbench.inspection.categories import FLOAT, QUANTIZED, is_weighted, precision, weight_dtype
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.layer import Layer
from quantbench.inspection.names import split_parts
from quantbench.inspection.verdicts.verdict import Item, Verdict, count, short


def judge(inspection: Inspection) -> list[Verdict]:
    """Weighted layers in float; tensors without scale; rejected INT8 implementations."""
    found: list[Verdict] = []
    build = inspection.build
    missing = build.missing_scales if build is not None else []
    rejected = _rejected(inspection)
    wants = inspection.quantized or bool(missing or rejected)
    floats = [x for x in inspection.layers if is_weighted(x) and precision(x) in FLOAT] if wants else []
    if floats:
        items = [Item(short(x), f"runs in {precision(x)}: {_why(x, inspection, rejected)}", x.time_ms) for x in floats]
        found.append(
            Verdict(
                "float_layers", "cost", f"{count(len(floats), 'weighted layer')} run in float",
                "They carry no Q/DQ, have no scale, or no INT8 kernel was faster.",
                "Quantize their inputs and weights, unless accuracy wants them in float.", tuple(items),
            )
        )  # fmt: skip
    if missing:
        found.append(
            Verdict(
                "missing_scales", "problem", f"{count(len(missing), 'tensor')} without a scale",
                "Without a scale the layers that make or read such a tensor run in float.",
                "Calibrate again with data that reaches these tensors, or set their ranges.",
                tuple(Item(tensor, f"line {line}") for line, tensor in missing),
            )
        )  # fmt: skip
    if rejected:
        found.append(
            Verdict(
                "rejected_int8", "problem", f"INT8 implementations of {count(len(rejected), 'layer')} rejected",
                "The tensors named have no INT8 scale.", "Give these tensors a range.",
                tuple(Item(layer, f"no scale for {', '.join(tensors)}") for layer, tensors in rejected.items()),
            )
        )  # fmt: skip
    return found


def _rejected(inspection: Inspection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in inspection.build.rejected if inspection.build is not None else ():
        fields = event.fields
        if "layer" in fields:
            tensors = found.setdefault(str(fields["layer"]), [])
            tensor = str(fields["missing"])
            if tensor not in tensors:
                tensors.append(tensor)
    return found


def _why(layer: Layer, inspection: Inspection, rejected: dict[str, list[str]]) -> str:
    for part in (layer.name, *split_parts(layer.name), *layer.nodes):
        if part in rejected:
            return f"INT8 was rejected, no scale for {', '.join(rejected[part])}"
    if weight_dtype(layer) in QUANTIZED:
        return "its weights are INT8, its input is not: no DQ feeds it"
    makers = inspection.flow.before(layer)
    given = Counter(t.dtype for m in makers for t in m.outputs)
    if any(dtype in QUANTIZED for dtype in given):
        return "its input is converted from INT8 before it"
    if any("DequantizeLinear" in node for node in layer.nodes):
        return "its Q/DQ are inside the layer, yet the kernel chosen computes in float"
    return "no Q/DQ feeds it"
