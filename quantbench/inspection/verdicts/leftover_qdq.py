"""Q and DQ that fused into nothing and run as layers of their own."""

from quantbench.inspection.fate import op_of_name
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict, count, short
from quantbench.layers.categories import QUANTIZED, category, is_leftover_qdq, is_weighted, output_dtype
from quantbench.layers.layer import Layer

_AT_INPUT = "it quantizes an input of the network"
_OUTPUT = "an engine output"


def judge(inspection: Inspection) -> list[Verdict]:
    """One verdict; without layers, from the passes of the log (QDQToCopy)."""
    found = [layer for layer in inspection.layers if is_leftover_qdq(layer)]
    if found:
        items = [Item(layer.name, _cause(inspection, layer), layer.time_ms) for layer in found]
    else:
        items = [
            Item(f.node, f"QDQToCopy turned it into a copy ({_lines(f.lines)})")
            for f in inspection.fates
            if f.status == "left over"
        ]
    if not items:
        return []
    nodes = sum(max(1, sum(op_of_name(n) != "" for n in layer.nodes)) for layer in found) or len(items)
    where = "" if nodes == len(items) else f" (in {count(len(items), 'kernel')})"
    at_input = sum(_AT_INPUT in item.detail for item in items)
    usual = at_input == len(items)
    return [
        Verdict(
            "leftover_qdq", "cost" if usual else "problem",
            f"{count(nodes, 'Q or DQ', 'Q and DQ')} left over as copies{where}",
            "Nothing could take them in, so each costs a pass over its tensor."
            + (" At an input of the network, which is float, that is normal." if at_input else ""),
            "Nothing to do, unless the program can give the input as INT8." if usual else
            "See what stands before each: a float residual, a layer without INT8 kernel, a tensor also read in float.",
            tuple(items),
        )
    ]  # fmt: skip


def _lines(lines: tuple[int, ...]) -> str:
    return f"line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines))}"


def _cause(inspection: Inspection, layer: Layer) -> str:
    ops = {op_of_name(n) for n in layer.nodes}
    if {"Q", "DQ"} <= ops and output_dtype(layer) not in QUANTIZED:
        readers = ", ".join(short(r) for r in inspection.flow.after(layer)) or _OUTPUT
        return f"a Q and the DQ behind it in one kernel: it rounds, and {readers} reads float all the same"
    is_dq = any(op_of_name(n) == "DQ" for n in layer.nodes) or (
        bool(layer.inputs) and layer.inputs[0].dtype == "INT8" and output_dtype(layer) != "INT8"
    )
    if is_dq and output_dtype(layer) not in QUANTIZED:
        readers = ", ".join(short(r) for r in inspection.flow.after(layer)) or _OUTPUT
        return f"a DQ: {readers} wants float, so the INT8 tensor is converted back"
    makers = inspection.flow.before(layer)
    if not makers:
        return _AT_INPUT
    maker = makers[0]
    if category(maker) == "reformat":
        further = inspection.flow.before(maker)
        maker = further[0] if further else maker
    if is_weighted(maker):
        residual = _float_residual(maker)
        if residual:
            return (
                f"{short(maker)} gives {output_dtype(maker)} because its residual input ({residual}) is float; "
                "with Q/DQ on that edge the Q goes into the conv"
            )
        return f"{short(maker)} gives {output_dtype(maker)}: its output is also read in float, or no kernel takes the Q"
    return f"{short(maker)} ({maker.type or category(maker)}) runs in {output_dtype(maker)} and takes no Q in"


def _float_residual(layer: Layer) -> str:
    return next((f"{t.name}, {t.dtype}" for t in layer.inputs[1:] if t.dtype in ("FP32", "FP16", "BF16")), "")
