"""Q and DQ that fused into nothing and run as layers of their own."""

from quantbench.inspection.fate import op_of_name
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict, count, short
from quantbench.layers.categories import category, is_leftover_qdq, is_weighted, output_dtype
from quantbench.layers.layer import Layer


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
    return [
        Verdict(
            "leftover_qdq", "problem", f"{count(len(items), 'Q or DQ', 'Q and DQ')} left over as copies",
            "Nothing could take them in, so each costs a pass over its tensor. One at the input of the network is "
            "normal.",
            "See what stands before each: a float residual, a layer without INT8 kernel, a tensor also read in float.",
            tuple(items),
        )
    ]  # fmt: skip


def _lines(lines: tuple[int, ...]) -> str:
    return f"line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines))}"


def _cause(inspection: Inspection, layer: Layer) -> str:
    is_dq = any(op_of_name(n) == "DQ" for n in layer.nodes) or (
        bool(layer.inputs) and layer.inputs[0].dtype == "INT8" and output_dtype(layer) != "INT8"
    )
    if is_dq:
        readers = ", ".join(short(r) for r in inspection.flow.after(layer)) or "an engine output"
        return f"a DQ: {readers} wants float, so the INT8 tensor is converted back"
    makers = inspection.flow.before(layer)
    if not makers:
        return "it quantizes an input of the network"
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
