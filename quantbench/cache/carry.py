"""The calibration file inside a Q/DQ model: what `to-qdq` leaves in the metadata, so that `from-qdq` loses no range.

A Q/DQ model holds the scales of quantized tensors only, and one scale for all members of a group. The metadata
property keeps the others, and each tensor's own scale beside the one that its Q got.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from quantbench.cache.float32 import from_hex, to_hex
from quantbench.errors import QuantbenchError
from quantbench.text_file import parse_json

PROPERTY = "quantbench.cache"


@dataclass(frozen=True, slots=True)
class Carried:
    """`scales`: name to scale of the cache, renamed to the model's tensors; `applied`: tensor to the scale of its Q."""

    version: str
    algorithm: str
    scales: Mapping[str, float]
    applied: Mapping[str, float]


def attach(model: onnx.ModelProto, carried: Carried) -> None:
    """Store `carried` in the metadata of `model`, which is changed in place."""
    detach(model)
    data = {
        "version": carried.version,
        "algorithm": carried.algorithm,
        "scales": [[name, to_hex(scale)] for name, scale in carried.scales.items()],
        "applied": {name: to_hex(scale) for name, scale in carried.applied.items()},
    }
    model.metadata_props.add(key=PROPERTY, value=json.dumps(data, separators=(",", ":")))


def detach(model: onnx.ModelProto) -> Carried | None:
    """Remove and return what `attach` stored in `model`, None where there is nothing.

    Raises QuantbenchError for a property that is broken.
    """
    for index, prop in enumerate(model.metadata_props):
        if prop.key == PROPERTY:
            text = prop.value
            del model.metadata_props[index]
            break
    else:
        return None
    try:
        data = parse_json(text, PROPERTY)
        return Carried(
            str(data["version"]),
            str(data["algorithm"]),
            {str(name): from_hex(digits) for name, digits in data["scales"]},
            {str(name): from_hex(digits) for name, digits in data["applied"].items()},
        )
    except (QuantbenchError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise QuantbenchError(
            f"metadata property {PROPERTY} of the model is broken; remove it from the model"
        ) from error
