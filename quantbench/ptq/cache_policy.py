"""A calibration cache in the run folder is used only if it belongs to this model, data and method."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from quantbench import limits
from quantbench.atomic import write_json, write_text
from quantbench.cache.tensorrt import parse, render
from quantbench.calibration.ranges import INT8_MAX, Ranges, TensorRange
from quantbench.errors import QuantbenchError
from quantbench.images.source import file_sha256
from quantbench.json_types import JsonObject
from quantbench.text_file import read_object, read_text

CACHE = "calibration.cache"
SIDECAR = "calibration.cache.json"
# "own": nobody edits the cache of that folder; what was changed there is made again.
Policy = Literal["check", "reuse", "refresh", "own"]


@dataclass(frozen=True, slots=True)
class Owner:
    """Which model and data (by hash) and which method a cache belongs to; `folded`: its ranges are those of the model
    after equalization or SmoothQuant."""

    model: str
    data: str
    method: str
    folded: bool = False


def takes_cache(folder: Path, owner: Owner, policy: Policy) -> bool:
    """Whether the folder's cache stands in for calibration, which only --reuse-cache asks for.

    Raises QuantbenchError where the cache belongs to others, or was changed since it was written, and `policy` is
    "check": --reuse-cache or --refresh decides.
    """
    path = folder / CACHE
    if policy in ("refresh", "own") or not path.exists():
        return False
    known = _sidecar(folder)
    if policy == "reuse":
        if known.get("folded"):
            raise QuantbenchError(
                f"{path} holds ranges of the network with its channels scaled, which fit no other; --refresh "
                f"calibrates anew, with --equalize off --smooth off the network as it is"
            )
        return True
    wanted = {"model": owner.model, "data": owner.data, "method": owner.method}
    different = sorted(key for key in wanted if known.get(key) != wanted[key])
    if not known:
        fault = "does not say what it belongs to; --reuse-cache takes it, --refresh replaces it"
    elif different:
        fault = f"belongs to another {' and '.join(different)}; --reuse-cache takes it all the same, --refresh calibrates anew"  # noqa: E501
    elif known.get("sha256") != file_sha256(path):
        fault = "was changed since it was written; --reuse-cache takes it as it is, --refresh calibrates anew"
    else:
        return False  # the same run: its stages know what is done
    raise QuantbenchError(f"{path} {fault}")


def given_ranges(path: Path) -> Ranges:
    """Ranges of the cache at `path`, whoever wrote it."""
    cache = parse(read_text(path, most=limits.CACHE_BYTES))
    return Ranges({entry.name: TensorRange(entry.scale * INT8_MAX, f"cache {path.name}") for entry in cache.entries})


def write_cache(folder: Path, ranges: Ranges, owner: Owner, algorithm: str) -> None:
    """Write calibration.cache in TensorRT's format, and the sidecar that says what it belongs to, with its hash."""
    write_text(folder / CACHE, render(ranges, algorithm=algorithm))
    write_json(folder / SIDECAR, {**asdict(owner), "sha256": file_sha256(folder / CACHE)})


def _sidecar(folder: Path) -> JsonObject:
    try:
        return read_object(folder / SIDECAR)
    except QuantbenchError:
        return {}
