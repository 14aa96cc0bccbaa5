"""A layer as the engine inspector describes it (JSON or its one-line text) made into a `Layer`."""

from collections.abc import Mapping
from typing import Any

from quantbench.layers.formats import UNKNOWN, format_name, normalise_dtype, parse_format
from quantbench.layers.layer import Layer, LayerTensor
from quantbench.layers.names import metadata_nodes, nodes_of

_TAKEN = frozenset(
    {"Name", "LayerType", "Inputs", "Outputs", "Constants", "TacticName", "TacticValue", "Origin", "Metadata"}
)


def tensor_from_record(record: Mapping[str, Any]) -> LayerTensor:
    """One entry of `Inputs`, `Outputs` or `Constants`.

    Up to TensorRT 10 one text carries both (`Format/Datatype`); TensorRT 11 and RTX have `Datatype` and `Format`.
    """
    joined = str(record.get("Format/Datatype", ""))
    if joined:
        dtype, name, vector = parse_format(joined)
    else:
        name, vector = format_name(str(record.get("Format", "")))
        dtype = normalise_dtype(str(record.get("Datatype", record.get("DataType", ""))))
    dims = record.get("Dimensions", ())
    if not isinstance(dims, (list, tuple)):
        dims = ()
    return LayerTensor(
        name=str(record.get("Name", "")),
        dtype=dtype,
        format=name,
        dims=tuple(d for d in dims if isinstance(d, int)),
        vector=vector,
    )


def layer_from_record(record: Mapping[str, Any]) -> Layer:
    """The layer that `record` describes; unknown keys are kept in `attributes`, missing ones leave blanks."""
    name = str(record.get("Name", ""))
    metadata = record.get("Metadata")
    nodes = metadata_nodes(metadata) if isinstance(metadata, str) else ()
    tactic = record.get("TacticName") or record.get("TacticValue") or ""
    attributes = {key: value for key, value in record.items() if key not in _TAKEN}
    if record.get("TacticName") and record.get("TacticValue"):
        attributes["TacticValue"] = record["TacticValue"]
    return Layer(
        name=name,
        type=str(record.get("LayerType", "")),
        inputs=_tensors(record.get("Inputs")),
        outputs=_tensors(record.get("Outputs")),
        constants=_tensors(record.get("Constants")) + _weights(record),
        nodes=nodes or nodes_of(name),
        tactic=str(tactic),
        origin=str(record.get("Origin", "")),
        attributes=attributes,
    )


def _tensors(entries: Any) -> tuple[LayerTensor, ...]:
    if not isinstance(entries, list):
        return ()
    return tuple(tensor_from_record(entry) for entry in entries if isinstance(entry, Mapping))


def _weights(record: Mapping[str, Any]) -> tuple[LayerTensor, ...]:
    """`Weights` and `Bias` ({"Type": "Int8", "Count": 864}); Type may be a plain word in other versions."""
    found: list[LayerTensor] = []
    # A fused conv and pool (ConvActPool) carries its conv's fields with the prefix "Conv".
    for key in ("Weights", "Bias", "ConvWeights", "ConvBias"):
        entry = record.get(key)
        if not isinstance(entry, Mapping):
            continue
        count = entry.get("Count")
        if not isinstance(count, int) or count <= 0:
            continue
        dtype = normalise_dtype(str(entry.get("Type", UNKNOWN)))
        found.append(LayerTensor(name=key.removeprefix("Conv"), dtype=dtype, dims=(count,)))
    return tuple(found)
