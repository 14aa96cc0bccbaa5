"""Convs whose channel counts do not fit tensor cores."""

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict, count, short
from quantbench.layers.categories import QUANTIZED, category, precision
from quantbench.layers.layer import Layer


def judge(inspection: Inspection) -> list[Verdict]:
    """INT8 wants input and output channels in multiples of 16, FP16 of 8 (NVIDIA, "Optimizing Convolutional Layers",
    and the lint of trt-engine-explorer). Depthwise convs use no tensor cores and are left out."""
    items: list[Item] = []
    usual = 0
    first = next((x for x in inspection.layers if category(x) == "convolution"), None)
    for layer in inspection.layers:
        bad = _misfit(layer)
        if bad:
            normal = layer is first and bad.startswith(("C=3 ", "C=4 "))
            usual += normal
            note = "; the first conv of an image network has 3 channels (padded to 4), that is normal" if normal else ""
            items.append(Item(short(layer), bad + note, layer.time_ms))
    if not items:
        return []
    only_usual = usual == len(items)
    advice = "Choose channel counts that are multiples of 16 (32 for the CHW32 kernels)."
    return [
        Verdict(
            "channels", "note" if only_usual else "cost",
            f"{count(len(items), 'conv')} with channel counts that tensor cores pad",
            "Tensor cores work on 16 INT8 (8 FP16) channels at a time; the rest is padding, computed all the same.",
            "Nothing to do: images have 3 channels." if only_usual else advice, tuple(items),
        )
    ]  # fmt: skip


def _misfit(layer: Layer) -> str:
    if category(layer) != "convolution" or not layer.inputs or not layer.outputs:
        return ""
    if "epthwise" in layer.type or layer.attributes.get("Groups", 1) not in (1, "1"):
        return ""
    dtype = precision(layer)
    unit = 16 if dtype in QUANTIZED else 8 if dtype in ("FP16", "BF16") else 0
    if not unit or len(layer.inputs[0].dims) < 4 or len(layer.outputs[0].dims) < 4:
        return ""
    channels = (("C", layer.inputs[0].dims[1]), ("K", layer.outputs[0].dims[1]))
    bad = [f"{letter}={size}" for letter, size in channels if size > 0 and size % unit]
    return f"{', '.join(bad)} not a multiple of {unit} ({dtype})" if bad else ""
