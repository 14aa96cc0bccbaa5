"""The layers of a fresh engine that count: those that do work, in one profile, at one batch size."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from quantbench.engines.base import BuildResult
from quantbench.engines.write_layers import layers_of
from quantbench.layers.layer import Layer, LayerTensor

_SYNC = ("signal", "wait")
_LATER_PROFILE = re.compile(r" \[profile [1-9]\d*\]")
_MYELIN = re.compile(r"(_myl\d+)_\d+$")


def real_layers(built: BuildResult) -> tuple[Layer, ...]:
    """Layers of an engine that do work: without signal and wait, and those of its first optimization profile alone,
    since only one profile runs at a time."""
    layers = [layer for layer in layers_of(built) if layer.type not in _SYNC]
    later = {_kernel_group(layer) for layer in layers if any(_LATER_PROFILE.search(name) for name in _names(layer))}
    return tuple(layer for layer in layers if _kernel_group(layer) not in later)


def _names(layer: Layer) -> Iterator[str]:
    yield layer.name
    yield from (tensor.name for tensor in (*layer.inputs, *layer.outputs))


def _kernel_group(layer: Layer) -> str:
    """TensorRT-RTX ends the names of kernels that it compiled together in one `_mylN_`; others stand for themselves."""
    found = _MYELIN.search(layer.name)
    return found[1] if found else layer.name


def at_batch(layers: Sequence[Layer], batch: int) -> tuple[Layer, ...]:
    """`layers` of an engine with a dynamic batch, a leading unknown dimension taken as `batch`, so that bytes count."""

    def known(tensor: LayerTensor) -> LayerTensor:
        return replace(tensor, dims=(batch, *tensor.dims[1:])) if tensor.dims[:1] == (-1,) else tensor

    return tuple(
        replace(layer, inputs=tuple(map(known, layer.inputs)), outputs=tuple(map(known, layer.outputs)))
        for layer in layers
    )
