"""Decimal calibration tables in the wild: `name:4.65`, with or without a header line of TensorRT.

What the decimals mean is not written in them. Without a header they are read as amax, as onnxruntime's are; under a
TensorRT header as amax / 127, as TensorRT's are. `meaning` overrides that, 127/amax included, which one writer stored.
"""

import re

from quantbench.cache import tensorrt
from quantbench.cache.model import CalibrationCache, Entry
from quantbench.cache.onnxruntime_text import NUMBER
from quantbench.calibration.ranges import INT8_MAX
from quantbench.errors import QuantbenchError

DIALECT = "decimal"
MEANINGS = {"amax": "amax", "scale": "amax / 127", "inverse": "127 / amax"}
_LINE = re.compile(rf"(?P<name>.*\S)\s*:\s*(?P<value>{NUMBER})\s*")


def is_line(line: str) -> bool:
    """Whether `line` can be an entry of this dialect."""
    return _LINE.fullmatch(line) is not None


def parse(text: str, meaning: str | None = None) -> CalibrationCache:
    """Read the table. The caller has seen that all lines but a header are entries (`is_line`).

    Raises QuantbenchError where `meaning` is none of MEANINGS.
    """
    lines = text.split("\n")
    header = lines[0] if tensorrt.is_header(lines[0]) else ""
    read_as = meaning or ("scale" if header else "amax")
    if read_as not in MEANINGS:
        raise QuantbenchError(f"decimals cannot mean {read_as!r}; known: {', '.join(MEANINGS)}")
    entries = []
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is not None:
            scale = to_scale(float(match["value"]), read_as)
            entries.append(Entry(match["name"], scale, match["value"], number))
    _, version, algorithm = (*header.strip().split("-", 2), "", "")[:3]
    return CalibrationCache(
        DIALECT,
        tuple(entries),
        header=header,
        version=version,
        algorithm=algorithm,
        final_newline=text.endswith("\n"),
        notes=(f"decimals read as {MEANINGS[read_as]}; --values says otherwise",),
    )


def to_scale(value: float, meaning: str) -> float:
    """Scale (amax / 127) of a stored value. A stored 127 / amax of 0 stands for an infinite range."""
    if meaning == "scale":
        return value
    if meaning == "amax":
        return value / INT8_MAX
    return 1.0 / value if value else float("inf")
