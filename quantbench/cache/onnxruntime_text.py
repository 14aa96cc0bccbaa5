"""onnxruntime's plain-text calibration table: no header, one line a tensor, `name amax`, a decimal.

Written by `onnxruntime.quantization.quant_utils.write_calibration_table` as `calibration.cache`. onnxruntime 1.31
writes the larger of the two signed bounds, so a tensor that reaches further below zero than above gets too small a
range, and one that is never positive a negative one; the JSON of the same run is right.
"""

import re

from quantbench.cache.model import CalibrationCache, Entry
from quantbench.calibration.ranges import INT8_MAX, Ranges

DIALECT = "onnxruntime-text"
NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|inf|nan)"
_LINE = re.compile(rf"(?P<name>.*\S) (?P<value>{NUMBER})\s*")

NOTE = (
    "onnxruntime stores the larger signed bound here: ranges that reach further below zero are too small; use its JSON"
)


def is_line(line: str) -> bool:
    """Whether `line` can be an entry of this dialect."""
    return _LINE.fullmatch(line) is not None


def parse(text: str) -> CalibrationCache:
    """Read the table; the value is amax. The caller has seen that all lines are entries (`is_line`)."""
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is not None:
            entries.append(Entry(match["name"], float(match["value"]) / INT8_MAX, match["value"], number))
    return CalibrationCache(DIALECT, tuple(entries), final_newline=text.endswith("\n"), notes=(NOTE,))


def render(ranges: Ranges) -> str:
    """`ranges` as onnxruntime writes them: sorted by name, amax as the shortest decimal that reads back the same."""
    return "".join(f"{name} {ranges[name].amax!r}\n" for name in sorted(ranges))
