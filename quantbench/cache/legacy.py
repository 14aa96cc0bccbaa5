"""The cache of TensorRT's legacy calibrator: its own header, TensorRT's entries.

The one specimen (MLPerf 0.7, tests/data/artefacts/calib) begins with `0 3ff0000000000000 3fefffeb074a771d`: a number
and two IEEE-754 doubles, 1.0 and 0.99999. IInt8LegacyCalibrator is asked for a regression cutoff and a quantile, so
we read them as these, in that order; nothing NVIDIA published says so.
"""

import re
import struct

from quantbench.cache.model import CalibrationCache
from quantbench.cache.tensorrt import parse_entries
from quantbench.errors import QuantbenchError

DIALECT = "tensorrt-legacy"
_HEADER = re.compile(r"(?P<number>\d+) (?P<cutoff>[0-9a-fA-F]{1,16}) (?P<quantile>[0-9a-fA-F]{1,16})\s*")


def is_header(line: str) -> bool:
    """Whether `line` is a number and two doubles in hexadecimal."""
    return _HEADER.fullmatch(line) is not None


def parse(text: str) -> CalibrationCache:
    """Read a legacy cache; `details` gets "cutoff" and "quantile" as decimals. Raises QuantbenchError as TensorRT's."""
    lines = text.split("\n")
    header = _HEADER.fullmatch(lines[0])
    if header is None:
        raise QuantbenchError(f"line 1 is {lines[0][:60]!r}, not the header of a legacy cache")
    return CalibrationCache(
        dialect=DIALECT,
        entries=parse_entries(lines[1:], first_line=2),
        header=lines[0],
        algorithm="LegacyCalibration",
        final_newline=text.endswith("\n"),
        details={"cutoff": str(_double(header["cutoff"])), "quantile": str(_double(header["quantile"]))},
    )


def _double(text: str) -> float:
    return float(struct.unpack(">d", int(text, 16).to_bytes(8, "big"))[0])
