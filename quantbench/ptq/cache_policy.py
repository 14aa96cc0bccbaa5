"""A calibration cache in the run folder is used only if it belongs to this model, data and method."""

import json
from pathlib import Path
from typing import Literal

from quantbench.atomic import write_json, write_text
from quantbench.cache.tensorrt import parse, render
from quantbench.calibration.ranges import INT8_MAX, Ranges, TensorRange
from quantbench.errors import QuantbenchError

CACHE = "calibration.cache"
SIDECAR = "calibration.cache.json"
Policy = Literal["check", "reuse", "refresh"]


def cached_ranges(folder: Path, owner: dict[str, str], policy: Policy) -> Ranges | None:
    """Ranges of the folder's cache if they may be used, None to calibrate.

    `owner` says which model, data and method the run has. Raises QuantbenchError where the cache belongs to others and
    `policy` is "check": --reuse-cache or --refresh decides.
    """
    path = folder / CACHE
    if policy == "refresh" or not path.exists():
        return None
    if policy == "check":
        known = _owner_of(folder)
        different = sorted(key for key in owner if known.get(key) != owner[key])
        if not known:
            raise QuantbenchError(
                f"{path} does not say what it belongs to; --reuse-cache takes it, --refresh replaces it"
            )
        if different:
            raise QuantbenchError(
                f"{path} belongs to another {' and '.join(different)}; --reuse-cache takes it all the same, "
                f"--refresh calibrates anew"
            )
        return None  # the same run: its stages know what is done
    cache = parse(path.read_text(encoding="utf-8"))
    return Ranges({entry.name: TensorRange(entry.scale * INT8_MAX, f"cache {path.name}") for entry in cache.entries})


def write_cache(folder: Path, ranges: Ranges, owner: dict[str, str], algorithm: str) -> None:
    """Write calibration.cache in TensorRT's format, and the sidecar that says what it belongs to."""
    write_text(folder / CACHE, render(ranges, algorithm=algorithm))
    write_json(folder / SIDECAR, owner)


def _owner_of(folder: Path) -> dict[str, str]:
    try:
        data = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
