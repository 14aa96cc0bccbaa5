"""The ranges of a quantbench run."""

import json
from pathlib import Path

from quantbench.cache import quantbench_json
from quantbench.cache.model import CalibrationCache
from quantbench.errors import QuantbenchError

RANGES = "ranges.json"


def from_run(folder: Path) -> CalibrationCache:
    """Read `ranges.json` of a run folder. Raises QuantbenchError where there is none, or none that can be read."""
    path = folder / RANGES
    if not path.is_file():
        raise QuantbenchError(f"{folder} holds no {RANGES}; give the output folder of `quantbench ptq`")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QuantbenchError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict) or not quantbench_json.matches(data):
        raise QuantbenchError(f"{path} is no ranges.json of quantbench")
    return quantbench_json.parse(data)
