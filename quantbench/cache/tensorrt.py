"""TensorRT's own calibration cache, the text that IInt8*Calibrator reads and writes, to the byte.

First line `TRT-<version>-<algorithm>`, then one line a tensor, `name: hex`: the bits of the float32 amax / 127, most
significant digit first, without leading zeros. By evidence of the caches in tests/data/artefacts/calib.
"""

import math
import re

from quantbench.cache.float32 import from_hex, to_hex
from quantbench.cache.model import CalibrationCache, Entry
from quantbench.calibration.ranges import INT8_MAX, Ranges
from quantbench.errors import QuantbenchError

DIALECT = "tensorrt"
DEFAULT_VERSION = "8601"
DEFAULT_ALGORITHM = "EntropyCalibration2"
ALGORITHMS = ("EntropyCalibration2", "EntropyCalibration", "MinMaxCalibration", "LegacyCalibration")
SEPARATOR = ": "
_HEADER = re.compile(r"TRT-(?P<version>\d{1,9})-(?P<algorithm>\w+)\s*")


def is_header(line: str) -> bool:
    """Whether `line` is a header of TensorRT's dialect."""
    return _HEADER.fullmatch(line) is not None


def human_version(version: str) -> str:
    """ "8601" as "8.6.1", "100300" as "10.3.0" (NV_TENSORRT_VERSION: four digits up to 9, six from 10 on)."""
    if not version.isdigit():
        return version
    number = int(version)
    major_unit = 10000 if number >= 100000 else 1000
    return f"{number // major_unit}.{number % major_unit // 100}.{number % 100}"


def parse(text: str) -> CalibrationCache:
    """Read a cache in TensorRT's dialect.

    Names may hold colons and spaces: each line is split at its last ": ". Raises QuantbenchError, naming the line,
    for a missing header or a value that is not 1 to 8 hexadecimal digits.
    """
    lines = text.split("\n")
    header = _HEADER.fullmatch(lines[0])
    if header is None:
        raise QuantbenchError(
            f"line 1 is {lines[0][:60]!r}, not a TensorRT cache header like TRT-8601-{DEFAULT_ALGORITHM}"
        )
    return CalibrationCache(
        dialect=DIALECT,
        entries=parse_entries(lines[1:], first_line=2),
        header=lines[0],
        version=header["version"],
        algorithm=header["algorithm"],
        final_newline=text.endswith("\n"),
    )


def parse_entries(lines: list[str], first_line: int) -> tuple[Entry, ...]:
    """Entries of the lines `name: hex`, blank lines skipped; `first_line` is the number of the first of them."""
    entries: list[Entry] = []
    for number, line in enumerate(lines, first_line):
        if not line.strip():
            continue
        name, separator, spelled = line.rpartition(SEPARATOR)
        if not separator:
            raise QuantbenchError(f"line {number} is {line[:60]!r}, not 'name: hex'; repair or delete that line")
        try:
            scale = from_hex(spelled.strip())
        except ValueError as error:
            raise QuantbenchError(f"line {number}, tensor {name!r}: {error}; repair or delete that line") from error
        entries.append(Entry(name, scale, spelled, number))
    return tuple(entries)


def render_cache(cache: CalibrationCache) -> str:
    """The text of `cache` with its own header and spellings: the inverse of `parse`, byte for byte."""
    lines = [cache.header, *(f"{e.name}{SEPARATOR}{e.spelled or to_hex(e.scale)}" for e in cache.entries)]
    return "\n".join(lines) + ("\n" if cache.final_newline else "")


def render(ranges: Ranges, *, version: str = DEFAULT_VERSION, algorithm: str = DEFAULT_ALGORITHM) -> str:
    """`ranges` as the text of a TensorRT calibration cache (write it with "\\n" newlines, UTF-8).

    The value of a tensor is float32(amax / 127). Raises QuantbenchError for ranges that TensorRT cannot use or that
    its reader would not find again: negative, NaN, infinite, beyond float32, names that are empty or hold a newline.
    """
    header = f"TRT-{version}-{algorithm}"
    if not is_header(header):
        raise QuantbenchError(
            f"{header!r} is no cache header; the version is digits (8601, 100300), the algorithm a word"
        )
    lines = [header]
    for name in ranges:
        amax = ranges[name].amax
        if not name or "\n" in name or "\r" in name:
            raise QuantbenchError(f"tensor name {name!r} cannot stand in a TensorRT cache; rename the tensor")
        if not math.isfinite(amax) or math.copysign(1.0, amax) < 0:
            raise QuantbenchError(
                f"tensor {name!r} has amax {amax}, which no cache may hold; drop it or calibrate again"
            )
        try:
            lines.append(f"{name}{SEPARATOR}{to_hex(amax / INT8_MAX)}")
        except OverflowError as error:
            raise QuantbenchError(
                f"tensor {name!r} has amax {amax}, beyond float32; drop it or calibrate again"
            ) from error
    return "\n".join(lines) + "\n"
