"""Convs and matrix products that read INT8 and write float, and why each does."""

from quantbench.inspection.fate import op_of_name
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict, count, short
from quantbench.layers.categories import FLOAT, QUANTIZED, category, is_leftover_qdq, is_weighted, output_dtype
from quantbench.layers.layer import Layer

IN_KERNEL = "compiled into the pointwise kernel behind it"
OUTPUT = "an output of the engine, which is float"


def judge(inspection: Inspection) -> list[Verdict]:
    """One verdict over all such layers; the output layer of the network is told apart, since it must give float."""
    items = [
        Item(short(layer), f"{layer.inputs[0].dtype} in, {output_dtype(layer)} out: {reason(inspection, layer)}",
             layer.time_ms)
        for layer in inspection.layers
        if is_mixed(layer)
    ]  # fmt: skip
    if not items:
        return []
    total = sum(1 for layer in inspection.layers if is_weighted(layer) and layer.inputs)
    in_place = sum(1 for item in items if IN_KERNEL in item.detail)
    mistaken = [item for item in items if IN_KERNEL not in item.detail and OUTPUT not in item.detail]
    advice = (
        "Put a Q where the layer's result is read, with one scale, right behind what the layer can take in "
        "(BN, activation, residual Add with an INT8 residual)."
    )
    if not mistaken and not in_place:
        advice = "Nothing to do: only the results leave the engine in float."
    elif 2 * in_place > len(items):
        # Myelin, which is all of TensorRT-RTX, splits the epilogue off even where the Q/DQ are placed well.
        advice = (
            f"The Q/DQ of {in_place} of them are in place, so moving them changes nothing: this compiler splits the "
            "epilogue off. TensorRT 8 to 10 put it into the conv; here FP16 may move fewer bytes."
        )
    return [
        Verdict(
            "int8_in_float_out", "problem" if mistaken else "cost",
            f"{len(items)} of {count(total, 'weighted layer')} take INT8 and give float",
            "The sums of an INT8 layer leave it as INT8 only where the Q behind it was fused into it. Else they are "
            "written in float (2 or 4 times the bytes) and another layer converts them.",
            advice, tuple(items),
        )
    ]  # fmt: skip


def is_mixed(layer: Layer) -> bool:
    """Whether a weighted layer reads INT8 or FP8 and writes float."""
    return (
        is_weighted(layer)
        and bool(layer.inputs and layer.outputs)
        and layer.inputs[0].dtype in QUANTIZED
        and output_dtype(layer) in FLOAT
    )


def reason(inspection: Inspection, layer: Layer) -> str:
    """Why its output is float, told by who reads it."""
    after = inspection.flow.after(layer)
    if not after:
        return f"it is {OUTPUT}"
    # Myelin lists the conv behind a kernel, and the Q of its weights, among the kernel's nodes too.
    elsewhere = frozenset(n for other in inspection.layers if is_weighted(other) for n in other.nodes)
    reasons = [_because(inspection, layer, reader, elsewhere) for reader in after]
    return "; ".join(dict.fromkeys(reasons))


def _because(inspection: Inspection, layer: Layer, reader: Layer, elsewhere: frozenset[str]) -> str:
    quantizers = [n for n in reader.nodes if op_of_name(n) == "Q" and n not in elsewhere]
    if is_leftover_qdq(reader):
        return f"its Q was not fused and runs as a copy of its own ({reader.name})"
    if category(reader) in ("reformat", "noop"):
        return f"a reformat to {_dtype(reader)} follows ({reader.name})"
    if category(reader) == "pointwise" and quantizers:
        others = [n for n in reader.nodes if not op_of_name(n) and n not in elsewhere]
        work = f" together with {', '.join(others)}" if others else ""
        undone = ""
        if output_dtype(reader) in FLOAT:
            behind = ", ".join(short(x) for x in inspection.flow.after(reader)) or "the engine's output"
            undone = f", which gives {output_dtype(reader)} to {behind}"
        return f"its Q ({', '.join(quantizers)}) was {IN_KERNEL}{work}{undone}, not into it"
    if category(reader) == "pointwise" and not inspection.flow.after(reader):
        return f"{short(reader)} makes it {OUTPUT}"
    names = {t.name for t in layer.outputs}
    position = next((i for i, t in enumerate(reader.inputs) if t.name in names), 0)
    if is_weighted(reader) and position > 0:
        return f"{short(reader)} adds it as a residual in float: that edge carries no Q/DQ"
    return f"{short(reader)} reads it in float: no Q stands between them"


def _dtype(layer: Layer) -> str:
    return output_dtype(layer)
