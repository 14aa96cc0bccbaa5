"""Reformat layers that are no Q or DQ: who caused each."""

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict, count, label
from quantbench.layers.categories import category, is_leftover_qdq, output_dtype, precision
from quantbench.layers.layer import Layer


def judge(inspection: Inspection) -> list[Verdict]:
    """One verdict over the reformats of the engine; NoOp reformats cost nothing and are left out."""
    found = [x for x in inspection.layers if category(x) == "reformat" and not is_leftover_qdq(x) and x.inputs]
    if not found:
        return []
    items = [Item(label(layer), _cause(inspection, layer), layer.time_ms) for layer in found]
    changing = sum(1 for layer in found if precision(layer) != output_dtype(layer))
    return [
        Verdict(
            "reformats", "cost",
            f"{count(len(found), 'reformat')} between layers"
            + (f", {changing} of them with a change of type" if changing else ""),
            "Two neighbours want different types or memory layouts of one tensor.",
            _advice(inspection, bool(changing)),
            tuple(items),
        )
    ]  # fmt: skip


def _advice(inspection: Inspection, changing: bool) -> str:
    if changing and inspection.quantized:
        return (
            "A change of type in an INT8 network tells of a layer that stays float: quantize it, or its neighbours not."
        )
    if changing:
        return (
            "Give neighbours one type; at the engine's edge take the one that the first layer wants (--inputIOFormats)."
        )
    return (
        "The builder found the copy cheaper than a slower kernel. At the engine's edge another input format saves it "
        "(--inputIOFormats, --outputIOFormats)."
    )


def _cause(inspection: Inspection, layer: Layer) -> str:
    source, target = layer.inputs[0], layer.outputs[0] if layer.outputs else layer.inputs[0]
    change = f"{_form(source.dtype, source.format)} to {_form(target.dtype, target.format)}"
    makers, readers = inspection.flow.before(layer), inspection.flow.after(layer)
    gives = label(makers[0]) if makers else "the engine's input"
    names = list(dict.fromkeys(label(r) for r in readers))
    wants = ", ".join(names) or "the engine's output"
    return f"{change}: {gives} gives the first, {wants} {'want' if len(names) > 1 else 'wants'} the second"


def _form(dtype: str, name: str) -> str:
    return f"{dtype} {name}".strip()
