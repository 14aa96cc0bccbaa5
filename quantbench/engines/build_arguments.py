"""What a user gives as text, on the command line or under `compile:` of a recipe, as values."""

import os
from collections.abc import Sequence
from pathlib import Path

from quantbench.calibration.ranges import Ranges
from quantbench.engines.base import PRECISIONS
from quantbench.engines.discover import gpu_present, tensorrt_version
from quantbench.engines.network_function import is_network_function, plain_path
from quantbench.errors import QuantbenchError
from quantbench.text_file import read_json

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def precisions(given: str) -> frozenset[str]:
    """`"fp16,int8"` as a set; raises QuantbenchError for a word that is no precision."""
    names = [word.lower() for word in words(given)]
    for word in names:
        if word not in PRECISIONS:
            raise QuantbenchError(f"--precision {word} is none of {', '.join(PRECISIONS)}")
    return frozenset(names)


def pools(given: Sequence[str]) -> dict[str, int]:
    """`["workspace=4G"]` as bytes by name (suffixes K, M, G, powers of 1024; none: bytes)."""
    found = {}
    for text in given:
        name, sign, size = text.partition("=")
        number, unit = size.rstrip("BbKkMmGg"), size[len(size.rstrip("BbKkMmGg")) :].upper()
        unit = unit.removesuffix("B") if len(unit) > 1 else unit
        if not sign or unit not in _UNITS or not number.replace(".", "", 1).isdigit():
            raise QuantbenchError(f"--pool {text!r} is not NAME=SIZE, like workspace=4G")
        found[name.strip().lower()] = int(float(number) * _UNITS[unit])
    return found


def layer_precisions(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`["head/*=fp32"]` as pairs; the precision is what follows the last `=`."""
    pairs = []
    for text in given:
        pattern, _, precision = text.rpartition("=")
        if not pattern or precision.lower() not in ("fp32", "fp16", "bf16", "int8"):
            raise QuantbenchError(f"--layer-precision {text!r} is not PATTERN=PRECISION with fp32, fp16, bf16 or int8")
        pairs.append((pattern, precision.lower()))
    return tuple(pairs)


def chosen_tactics(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`["/conv1/*=0x9ae0c0d2fb3a01e5"]` as pairs; the kernel is what follows the last `=`."""
    pairs = []
    for text in given:
        layer, _, tactic = text.rpartition("=")
        if not layer or not tactic:
            raise QuantbenchError(f"--choose {text!r} is not LAYER=TACTIC, like /conv1/Conv=0x9ae0c0d2fb3a01e5")
        pairs.append((layer, tactic))
    return tuple(pairs)


def existing(path: Path, option: str) -> Path:
    """`path`; raises QuantbenchError, naming the option, where there is no such file."""
    if not path.is_file():
        raise QuantbenchError(f"{option} {path} is no file")
    return path


def library(path: Path, option: str) -> Path:
    """`path`; raises QuantbenchError, naming the option, where there is no file that can be a shared library: what
    loads it comes long after."""
    with existing(path, option).open("rb") as stream:
        begins = stream.read(4)
    if begins != b"\x7fELF" and begins[:2] != b"MZ":
        raise QuantbenchError(f"{option} {path} is no shared library; give the .so or .dll of the plugins")
    return path


def read_ranges(path: Path) -> Ranges:
    """Ranges from `ranges.json` or from a calibration cache in any dialect that quantbench reads.

    Raises QuantbenchError where the file is neither.
    """
    from quantbench.cache.read import read_cache

    if path.is_dir():
        path = path / "ranges.json"
    if path.suffix == ".json":
        data = read_json(path, "ranges")
        if isinstance(data, dict) and data.get("format") == "quantbench-ranges-1":
            return Ranges.from_json(data)
    return read_cache(path).ranges


def default_timing_cache(backend: str, target: str = "") -> Path | None:
    """~/.cache/quantbench/timing (or under $XDG_CACHE_HOME) where the build will be TensorRT's, else None."""
    if backend not in ("auto", "tensorrt") or target or not tensorrt_version() or not gpu_present():
        return None
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "quantbench" / "timing"


def words(text: str) -> tuple[str, ...]:
    """`"a, b"` as (a, b)."""
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def engine_path(model: Path, out: Path | None, backend: str) -> Path:
    """Where the engine goes: `out`, or the model's name with another suffix in the current folder's terms."""
    if is_network_function(model):
        return out or Path(f"{plain_path(model)}.engine")
    return out or model.with_suffix(".ort.onnx" if backend == "onnxruntime" else ".engine")
