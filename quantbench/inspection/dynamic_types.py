"""Types of the tensors of an engine with dynamic shapes, which says "N/A due to dynamic shapes" for every one."""

from collections.abc import Sequence
from dataclasses import replace

from quantbench.layers.categories import QUANTIZED, category, is_weighted, weight_dtype
from quantbench.layers.formats import UNKNOWN
from quantbench.layers.kernel_types import kernel_types
from quantbench.layers.layer import Layer, LayerTensor

# Work that gives what it takes: the type on one side is that on the other.
_SAME = frozenset({"pooling", "shuffle", "resize", "noop"})
NOTE = (
    "the engine has dynamic shapes and names no types: those shown are read off the weights and the names of the "
    "kernels, and carried along the edges"
)


def unnamed_types(layers: Sequence[Layer]) -> bool:
    """Whether most layers have tensors and no type on any of them."""
    with_tensors = [layer for layer in layers if layer.inputs or layer.outputs]
    bare = sum(all(t.dtype == UNKNOWN for t in (*layer.inputs, *layer.outputs)) for layer in with_tensors)
    return bool(with_tensors) and 2 * bare > len(with_tensors)


def fill_types(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """`layers` with the types that weights and kernels tell; a tensor that nothing tells of stays "?".

    What a layer's own kernel tells of it stands before what its neighbours tell.
    """
    told = [_told(layer) for layer in layers]
    known: dict[str, str] = {}
    for layer, (read, written) in zip(layers, told, strict=True):
        if layer.outputs and written:
            known.setdefault(layer.outputs[0].name, written)
        if layer.inputs and read:
            known.setdefault(layer.inputs[0].name, read)
    for _ in range(3):
        for layer in layers:
            _carry(layer, known)
    return tuple(
        replace(layer, inputs=_typed(layer.inputs, read, known), outputs=_typed(layer.outputs, written, known))
        for layer, (read, written) in zip(layers, told, strict=True)
    )


def _told(layer: Layer) -> tuple[str, str]:
    """What a weighted layer reads and writes, as far as its weights and its kernel tell."""
    if not is_weighted(layer):
        return "", ""
    read, written = kernel_types(layer.tactic)
    weights = weight_dtype(layer)
    return read or (weights if weights in QUANTIZED else ""), written


def _carry(layer: Layer, known: dict[str, str]) -> None:
    if category(layer) not in _SAME or not layer.inputs or not layer.outputs:
        return
    first, last = layer.inputs[0].name, layer.outputs[0].name
    for source, target in ((first, last), (last, first)):
        if source in known:
            known.setdefault(target, known[source])


def _typed(tensors: tuple[LayerTensor, ...], first: str, known: dict[str, str]) -> tuple[LayerTensor, ...]:
    """`tensors` with types, the first one's being `first` where that is not ""."""
    return tuple(
        replace(t, dtype=(first if index == 0 else "") or known.get(t.name, UNKNOWN)) if t.dtype == UNKNOWN else t
        for index, t in enumerate(tensors)
    )
