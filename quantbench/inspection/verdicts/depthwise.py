"""Depthwise convs that a compiler computes with zero channels between the real ones."""

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict, count, short
from quantbench.layers.categories import QUANTIZED, category, precision
from quantbench.layers.layer import Layer


def judge(inspection: Inspection) -> list[Verdict]:
    """Read off TensorRT-RTX 1.7: weights [K, r, h, w] on an input of r * K channels, r - 1 of each r being zeros."""
    wide = [(layer, r) for layer in inspection.layers if (r := widening(layer)) > 1]
    if not wide:
        return []
    extra = sum((layer.inputs[0].nbytes or 0) * (r - 1) // r for layer, r in wide)
    size = f", {extra / 2**20:.1f} MiB in all" if extra else ""
    items = tuple(
        Item(short(layer), f"input of {layer.outputs[0].dims[1]} channels written as {layer.inputs[0].dims[1]}",
             layer.time_ms)
        for layer, _ in wide
    )  # fmt: skip
    return [
        Verdict(
            "depthwise", "cost", f"{count(len(wide), 'depthwise conv')} padded with zero channels",
            "The compiler computes INT8 depthwise convs as grouped ones: zeros are written between the channels of the "
            f"input{size}.",
            "Keep depthwise convs in float for this compiler (quantbench ptq --keep-float PATTERN) and compare.", items,
        )
    ]  # fmt: skip


def widening(layer: Layer) -> int:
    """How many times more channels a depthwise conv reads than the network gives it; 1 for all other layers."""
    if category(layer) != "convolution" or precision(layer) not in QUANTIZED or not layer.outputs:
        return 1
    shapes = (layer.inputs[0].dims, layer.outputs[0].dims)
    weights = next((c.dims for c in layer.constants if len(c.dims) == 4 and c.dtype in QUANTIZED), ())
    if not weights or any(len(dims) != 4 for dims in shapes):
        return 1
    read, made = shapes[0][1], shapes[1][1]
    return weights[1] if weights[1] > 1 and weights[0] == made and read == made * weights[1] else 1
