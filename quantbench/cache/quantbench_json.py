"""quantbench's own ranges.json, which a run folder holds."""

import json
from collections.abc import Mapping
from typing import Any

from quantbench.cache.model import CalibrationCache, Entry
from quantbench.calibration.ranges import Ranges

DIALECT = "quantbench"


def matches(data: Mapping[str, Any]) -> bool:
    """Whether parsed JSON is `Ranges.to_json`."""
    return str(data.get("format", "")).startswith("quantbench-ranges")


def parse(data: Mapping[str, Any]) -> CalibrationCache:
    """Read the ranges. Raises QuantbenchError where fields are missing."""
    ranges = Ranges.from_json(data)
    methods = {r.method for r in ranges.tensors.values() if r.method}
    entries = tuple(Entry(name, r.scale) for name, r in ranges.tensors.items())
    return CalibrationCache(DIALECT, entries, algorithm=", ".join(sorted(methods)))


def render(ranges: Ranges) -> str:
    """The text of ranges.json."""
    return json.dumps(ranges.to_json(), indent=2, ensure_ascii=False) + "\n"
