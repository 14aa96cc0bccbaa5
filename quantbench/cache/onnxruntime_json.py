"""onnxruntime's calibration JSON, in its three shapes.

`save_tensors_data` (1.23 and later) writes {"CLS": "TensorsData", "data": {name: {"lowest", "highest"}}},
`write_calibration_table` the inner mapping alone, and versions before 1.16 {name: [lowest, highest]}.
"""

import json
from collections.abc import Mapping
from typing import Any

from quantbench.cache.model import CalibrationCache, Entry
from quantbench.calibration.ranges import INT8_MAX, Ranges
from quantbench.errors import QuantbenchError
from quantbench.json_types import JsonObject

DIALECT = "onnxruntime-json"


def matches(data: Mapping[str, Any]) -> bool:
    """Whether parsed JSON has one of the three shapes."""
    if data.get("CLS") == "TensorsData":
        return isinstance(data.get("data"), dict)
    return bool(data) and all(_is_bounds(value) for value in data.values())


def parse(data: Mapping[str, Any]) -> CalibrationCache:
    """Read the ranges: amax is the larger magnitude of the bounds, over all channels where there are several.

    Raises QuantbenchError for a tensor whose bounds are no numbers.
    """
    wrapped = data.get("CLS") == "TensorsData"
    tensors = data["data"] if wrapped else data
    method = data.get("calibration_method", "") if wrapped else ""
    algorithm = str(method.get("value", "") if isinstance(method, dict) else method).rpartition(".")[2]
    entries, skipped, channels = [], 0, 0
    for name, value in tensors.items():
        try:
            lowest, highest = _bounds(value)
        except (TypeError, ValueError, KeyError) as error:
            if isinstance(value, dict) and not {"lowest", "highest"} <= value.keys():
                skipped += 1
                continue
            raise QuantbenchError(f"tensor {name!r} has bounds that are no numbers: {str(value)[:60]}") from error
        channels += len(lowest) > 1
        low, high = min(lowest), max(highest)
        entries.append(Entry(name, max(abs(low), abs(high)) / INT8_MAX, low=low, high=high))
    notes = []
    if skipped:
        notes.append(f"{skipped} tensors without lowest and highest were left out")
    if channels:
        notes.append(f"{channels} tensors have a range per channel; the widest is taken")
    return CalibrationCache(DIALECT, tuple(entries), algorithm=algorithm, notes=tuple(notes))


def render(ranges: Ranges) -> str:
    """`ranges` as `onnxruntime.quantization.calibrate.load_tensors_data` reads them: method MinMax, ±amax."""
    data = {
        name: {"lowest": _array(-r.amax), "highest": _array(r.amax), "CLS": "TensorData"}
        for name, r in ranges.tensors.items()
    }
    method = {"CLS": "CalibrationMethod", "value": "CalibrationMethod.MinMax"}
    whole = {"CLS": "TensorsData", "data": data, "calibration_method": method, "smooth_quant": False}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _array(value: float) -> JsonObject:
    return {"data": [value], "dtype": "float32", "CLS": "numpy.array"}


def _is_bounds(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("CLS") == "TensorData" or {"lowest", "highest"} <= value.keys()
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, int | float) for v in value)


def _bounds(value: Any) -> tuple[list[float], list[float]]:
    """Lowest and highest values by channel. Raises TypeError, ValueError or KeyError for other JSON."""
    low, high = (value["lowest"], value["highest"]) if isinstance(value, dict) else value
    return _numbers(low), _numbers(high)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = value["data"]
    if isinstance(value, list):
        found = [number for item in value for number in _numbers(item)]
        if not found:
            raise ValueError("empty")
        return found
    return [float(value)]
