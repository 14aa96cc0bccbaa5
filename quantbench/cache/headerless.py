"""TensorRT's entries without the header line: a cache that someone cut or pasted. TensorRT itself would not read it."""

import re

from quantbench.cache.model import CalibrationCache
from quantbench.cache.tensorrt import parse_entries

DIALECT = "tensorrt-headerless"
_LINE = re.compile(r".*: [0-9a-fA-F]{1,8}\s*")


def is_line(line: str) -> bool:
    """Whether `line` can be an entry of TensorRT's dialect."""
    return _LINE.fullmatch(line) is not None


def parse(text: str) -> CalibrationCache:
    """Read the entries; raises QuantbenchError as `tensorrt.parse` does."""
    return CalibrationCache(
        DIALECT,
        parse_entries(text.split("\n"), first_line=1),
        final_newline=text.endswith("\n"),
        notes=("no header line: TensorRT would not read this file; `quantbench cache convert` writes one",),
    )
