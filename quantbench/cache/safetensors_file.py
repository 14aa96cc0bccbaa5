"""The safetensors container: 8 bytes of length, a JSON header, raw little-endian tensors (format specification 0.3)."""

import json
import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from quantbench.errors import QuantbenchError
from quantbench.text_file import parse_json

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MAX_HEADER = 100_000_000


def is_safetensors(data: bytes) -> bool:
    """Whether the first bytes are a plausible length and the begin of a JSON object."""
    return len(data) > 9 and struct.unpack_from("<Q", data)[0] <= min(_MAX_HEADER, len(data) - 8) and data[8:9] == b"{"


def read(data: bytes, suffix: str) -> dict[str, npt.NDArray[np.float64]]:
    """Float tensors whose names end in `suffix`, as float64. Raises QuantbenchError for a broken file."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = parse_json(data[8 : 8 + length], "the header of this safetensors file")
        found = {}
        for name, info in header.items():
            if name == "__metadata__" or not name.endswith(suffix) or info["dtype"] not in _DTYPES:
                continue
            begin, end = info["data_offsets"]
            flat = np.frombuffer(data[8 + length + begin : 8 + length + end], _DTYPES[info["dtype"]])
            if info["dtype"] == "BF16":
                flat = (flat.astype(np.uint32) << 16).view(np.float32)
            found[name] = flat.astype(np.float64).reshape(info["shape"])
        return found
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise QuantbenchError(f"this safetensors file is broken: {error}") from error


def write(tensors: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    """The bytes of a safetensors file of float32 tensors."""
    header: dict[str, object] = {}
    offset = 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(v.astype("<f4").tobytes() for v in tensors.values())
