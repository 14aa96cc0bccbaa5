"""AIMET's encodings files, versions 0.6.1, 1.0.0 and 2.0.0, in which a scale comes with an offset or a zero point.

Fields as aimet-onnx 2.42 writes them. Activations only: weights and biases have a range per channel that TensorRT
finds by itself. A grid whose zero point lies in its middle is symmetric and keeps its scale; any other gets the amax
of its farther bound.
"""

import json
from collections.abc import Callable, Mapping, Sized
from typing import Any

from quantbench.cache.model import CalibrationCache, Entry
from quantbench.calibration.ranges import INT8_MAX, Ranges
from quantbench.errors import QuantbenchError

DIALECT = "aimet"
WRITTEN_VERSION = "1.0.0"
_MOST_BITS = 32


def matches(data: Mapping[str, Any]) -> bool:
    """Whether parsed JSON is an encodings file."""
    return "activation_encodings" in data or ("version" in data and isinstance(data.get("encodings"), list))


def parse(data: Mapping[str, Any]) -> CalibrationCache:
    """Read the activations of an encodings file; `version` is that of the format.

    Raises QuantbenchError for encodings of the torch front end, which name modules and not tensors, and for an entry
    that lacks its fields.
    """
    entries: list[Entry] = []
    floats = weights = 0
    for name, encoding, read in _encodings(data):
        try:
            if _is_float(encoding):
                floats += 1
            elif "axis" in encoding or encoding.get("output_dtype") in ("int32", "uint32"):
                weights += 1
            else:
                entries.append(read(name, encoding))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise QuantbenchError(f"encoding of {name!r} lacks or garbles a field: {error!r}") from error
    parameters = data.get("param_encodings", ())
    if not isinstance(parameters, Sized):
        raise QuantbenchError(f"these AIMET encodings have {parameters!r} for param_encodings, not a list or an object")
    weights += len(parameters)
    notes = []
    if weights:
        notes.append(f"{weights} weights and biases left out: TensorRT finds their ranges itself")
    if floats:
        notes.append(f"{floats} float encodings left out: those tensors stay float")
    return CalibrationCache(DIALECT, tuple(entries), version=str(data.get("version", "0.6.1")), notes=tuple(notes))


def render(ranges: Ranges) -> str:
    """`ranges` as an encodings file of version 1.0.0: symmetric 8 bits, offset -128, scale amax / 127."""
    activations = [
        {
            "name": name,
            "bw": 8,
            "dtype": "INT",
            "enc_type": "PER_TENSOR",
            "is_sym": True,
            "offset": [-128],
            "scale": [r.scale],
        }
        for name, r in ranges.tensors.items()
    ]
    whole = {"version": WRITTEN_VERSION, "activation_encodings": activations, "param_encodings": []}
    return json.dumps(whole, indent=4, ensure_ascii=False) + "\n"


_Reader = Callable[[str, Mapping[str, Any]], Entry]


def _encodings(data: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], _Reader]]:
    """Name, fields and reader of each activation (2.0.0: of each tensor)."""
    try:
        if isinstance(data.get("encodings"), list):
            return [(e["name"], e, _read_zero_point) for e in data["encodings"]]
        activations = data["activation_encodings"]
        if isinstance(activations, list):
            return [(e["name"], e, _read_offset) for e in activations]
        if any(isinstance(value, dict) for value in activations.values()):
            raise QuantbenchError(
                "these are AIMET encodings of torch modules, not of ONNX tensors; use the .encodings file that "
                "sim.export (or sim.onnx.export) writes beside the ONNX model"
            )
        return [(name, value[0], _read_bounds) for name, value in activations.items()]
    except (LookupError, TypeError, AttributeError) as error:
        raise QuantbenchError(f"these AIMET encodings lack a name or a field: {error!r}") from error


def _is_float(encoding: Mapping[str, Any]) -> bool:
    kind = str(encoding.get("dtype", encoding.get("output_dtype", "int"))).lower()
    return "float" in kind


def _read_bounds(name: str, encoding: Mapping[str, Any]) -> Entry:
    """0.6.1: scale and (signed) offset, with bitwidth; min and max follow from them."""
    bits = int(encoding["bitwidth"])
    return _entry(name, float(encoding["scale"]), float(encoding["offset"]), bits)


def _read_offset(name: str, encoding: Mapping[str, Any]) -> Entry:
    """1.0.0: lists of one scale and one offset; the lowest level is scale * offset."""
    if len(encoding["scale"]) != 1:
        raise ValueError(f"{len(encoding['scale'])} scales for an activation")
    return _entry(name, float(encoding["scale"][0]), float(encoding["offset"][0]), int(encoding["bw"]))


def _read_zero_point(name: str, encoding: Mapping[str, Any]) -> Entry:
    """2.0.0: y_scale, y_zero_point (0 when absent) and output_dtype, as QuantizeLinear has them."""
    kind = str(encoding["output_dtype"])
    bits = int(kind.lstrip("uint"))
    zero_point = _number(encoding.get("y_zero_point", 0))
    lowest = 0 if kind.startswith("u") else -(2 ** (bits - 1))
    return _entry(name, _number(encoding["y_scale"]), lowest - zero_point, bits)


def _entry(name: str, scale: float, offset: float, bits: int) -> Entry:
    """Entry of the grid scale * (offset ... offset + 2**bits - 1). Raises ValueError for no number of bits."""
    if not 1 <= bits <= _MOST_BITS:
        raise ValueError(f"{bits} bits")
    half = 2 ** (bits - 1)
    low, high = scale * offset, scale * (offset + 2 * half - 1)
    if offset == -half:
        # Symmetric; the lone level -half has no counterpart, as TensorRT's -128 has none.
        return Entry(name, scale * (half - 1) / INT8_MAX, low=low, high=high)
    return Entry(name, max(abs(low), abs(high)) / INT8_MAX, low=low, high=high)


def _number(value: Any) -> float:
    while isinstance(value, list):
        if len(value) != 1:
            raise ValueError(f"{len(value)} values for an activation")
        value = value[0]
    return float(value)
