"""Layer-info JSON of any version: trtexec's --exportLayerInfo, IEngineInspector, Torch-TensorRT and our layers.json."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantbench.layers.layer import Layer, LayerTensor
from quantbench.layers.names import nodes_of
from quantbench.layers.records import layer_from_record


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """Layers in execution order and the names of the engine's inputs and outputs.

    `names_only` tells an engine built without detailed profiling verbosity: its JSON holds nothing but names.
    """

    layers: tuple[Layer, ...]
    bindings: tuple[str, ...] = ()
    names_only: bool = False


def read_layer_info(data: Mapping[str, Any]) -> LayerInfo:
    """Layers of a JSON object with `Layers` (and perhaps `Bindings` or `I/O Tensors`); entries of other shapes are
    kept as layers with no more than a name."""
    entries = data.get("Layers")
    layers: list[Layer] = []
    names_only = True
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping):
            layers.append(layer_from_record(entry))
            names_only = False
        else:
            layers.append(Layer(name=str(entry), type="", nodes=nodes_of(str(entry))))
    bindings = data.get("Bindings", data.get("I/O Tensors", ()))
    return LayerInfo(tuple(layers), _binding_names(bindings), names_only and bool(layers))


def _binding_names(bindings: Any) -> tuple[str, ...]:
    if not isinstance(bindings, list):
        return ()
    return tuple(str(b.get("Name", "")) if isinstance(b, Mapping) else str(b) for b in bindings)


def read_own_layers(data: Any) -> tuple[Layer, ...]:
    """Layers of quantbench's own `layers.json`: a list of `Layer.to_json()` values, or {"layers": [...]}."""
    entries = data.get("layers", ()) if isinstance(data, Mapping) else data
    return tuple(_own_layer(e) for e in entries if isinstance(e, Mapping)) if isinstance(entries, list) else ()


def built_by(data: Any) -> str:
    """Version of the compiler as a log would tell it ("8.6.1", "RTX 1.7.1.116"), "" where the file does not say."""
    if not isinstance(data, Mapping) or not isinstance(data.get("version"), str):
        return ""
    version: str = data["version"]
    return f"RTX {version}" if data.get("backend") == "tensorrt-rtx" else version


def _own_layer(entry: Mapping[str, Any]) -> Layer:
    time = entry.get("time_ms")
    attributes = entry.get("attributes")
    return Layer(
        name=str(entry.get("name", "")),
        type=str(entry.get("type", "")),
        inputs=_own_tensors(entry.get("inputs")),
        outputs=_own_tensors(entry.get("outputs")),
        constants=_own_tensors(entry.get("constants")),
        nodes=tuple(str(n) for n in entry.get("nodes", ()) or ()),
        tactic=str(entry.get("tactic", "")),
        time_ms=float(time) if isinstance(time, (int, float)) and math.isfinite(time) else None,
        origin=str(entry.get("origin", "")),
        attributes=dict(attributes) if isinstance(attributes, Mapping) else {},
    )


def _own_tensors(entries: Any) -> tuple[LayerTensor, ...]:
    if not isinstance(entries, list):
        return ()
    return tuple(
        LayerTensor(
            name=str(e.get("name", "")),
            dtype=str(e.get("dtype", "?")),
            format=str(e.get("format", "")),
            dims=tuple(d for d in e.get("dims", ()) if isinstance(d, int)),
        )
        for e in entries
        if isinstance(e, Mapping)
    )
