"""What is suspicious in a calibration file, entry by entry and as a whole."""

import math
import statistics
from collections import Counter
from dataclasses import dataclass

from quantbench.cache import decimal_text, tensorrt
from quantbench.cache.float32 import HEX_DIGITS, from_hex
from quantbench.cache.model import CalibrationCache, Entry
from quantbench.calibration.ranges import INT8_MAX

UNNAMED = "(Unnamed Layer*"

# FP16's largest finite and smallest positive values: a tensor outside them cannot have been computed in FP16 either.
_LARGEST_AMAX = 65504.0
_SMALLEST_AMAX = 2.0**-24
# Medians of amax in the caches of tests/data/artefacts/calib lie between 1 and 11. If 127/amax is stored instead of
# amax/127, the median reads as 127^2 over that, 1,500 to 16,000.
_LARGEST_MEDIAN = 500.0
_BOUNDED = ("sigmoid", "softmax")
_CALIBRATORS_SINCE, _CALIBRATORS_UNTIL = 2000, 110000


@dataclass(frozen=True, slots=True)
class Flag:
    """One suspicion: `kind` is a word for machines, `tensor` is "" where the whole file is meant."""

    kind: str
    tensor: str
    message: str


def flags(cache: CalibrationCache) -> tuple[Flag, ...]:
    """All flags of `cache`, those of the whole file first."""
    return (
        *_file_flags(cache),
        *(flag for entry in cache.entries for flag in _entry_flags(entry)),
        *_duplicates(cache),
    )


def _entry_flags(entry: Entry) -> list[Flag]:
    found = []

    def flag(kind: str, message: str) -> None:
        found.append(Flag(kind, entry.name, message))

    scale, amax = entry.scale, entry.amax
    if math.isnan(scale):
        flag("nan", "not a number: the model or an image gave NaN while it calibrated")
    elif math.isinf(scale):
        flag("infinite", "infinite: some value overflowed, or the writer divided by zero")
    elif scale < 0:
        flag("negative", "negative: no range; the writer took a signed bound for it")
    elif scale == 0:
        flag("zero", "zero: the tensor was always 0 on the calibration images; any engine divides by it")
    elif not _SMALLEST_AMAX <= amax <= _LARGEST_AMAX:
        flag("absurd", f"amax {amax:.6g} lies outside what FP16 can hold ({_SMALLEST_AMAX:.2g} to {_LARGEST_AMAX:.0f})")
    if UNNAMED in entry.name:
        flag("unnamed", "an unnamed layer of TensorRT's network: its number changes with the parser's version")
    return found


def _duplicates(cache: CalibrationCache) -> list[Flag]:
    counts = Counter(entry.name for entry in cache.entries)
    found = []
    for name, count in counts.items():
        if count > 1:
            values = {entry.scale for entry in cache.entries if entry.name == name}
            same = "the same value" if len(values) == 1 else f"{len(values)} different values; the last one counts here"
            found.append(Flag("duplicate", name, f"{count} entries with {same}"))
    return found


def _file_flags(cache: CalibrationCache) -> list[Flag]:
    found: list[Flag] = []
    if not cache.entries:
        found.append(Flag("empty", "", "no entries: TensorRT would calibrate again, or run everything in float"))
        return found
    if looks_inverted(cache):
        found.append(
            Flag("inverted", "", "the values look like 127/amax, not amax/127: read as amax/127 the ranges are far too "
                 "wide and the engine's output is noise; `quantbench cache convert --invert` turns them round")
        )  # fmt: skip
    if _looks_byteswapped(cache):
        found.append(
            Flag("byteswapped", "", "the hexadecimal digits look least significant byte first; TensorRT wants most")
        )
    if cache.dialect == decimal_text.DIALECT and cache.header:
        found.append(
            Flag("header", "", f"header {cache.header.strip()!r} promises hexadecimal values, these are decimals")
        )
    if cache.dialect == tensorrt.DIALECT:
        found.extend(_header_flags(cache))
    return found


def _header_flags(cache: CalibrationCache) -> list[Flag]:
    found = []
    version, name = int(cache.version), tensorrt.human_version(cache.version)
    if not _CALIBRATORS_SINCE <= version < _CALIBRATORS_UNTIL:
        found.append(Flag("header", "", f"version {cache.version} ({name}): no such TensorRT had calibrators"))
    if cache.algorithm not in tensorrt.ALGORITHMS:
        known = ", ".join(tensorrt.ALGORITHMS)
        found.append(Flag("header", "", f"algorithm {cache.algorithm!r} is none of TensorRT's ({known})"))
    padded = sum(len(e.spelled.strip()) == HEX_DIGITS and e.spelled.startswith("0") for e in cache.entries)
    if padded:
        found.append(Flag("header", "", f"{padded} values have leading zeros, which TensorRT does not write: "
                          "another program made this file"))  # fmt: skip
    return found


def _finite(cache: CalibrationCache) -> list[Entry]:
    return [e for e in cache.entries if math.isfinite(e.scale) and e.scale > 0]


def looks_inverted(cache: CalibrationCache) -> bool:
    """Whether most values make sense as 127/amax and not as amax/127."""
    finite = _finite(cache)
    if not finite or _looks_byteswapped(cache):
        return False
    bounded = [e for e in finite if any(word in e.name.lower() for word in _BOUNDED)]
    if any(abs(e.scale - INT8_MAX) < 0.1 * INT8_MAX for e in bounded):
        return True
    median = statistics.median(e.amax for e in finite)
    return _LARGEST_MEDIAN < median < INT8_MAX**2 / _SMALLEST_AMAX and 1e-2 < INT8_MAX**2 / median < _LARGEST_MEDIAN


def _looks_byteswapped(cache: CalibrationCache) -> bool:
    if cache.dialect != tensorrt.DIALECT:
        return False
    swapped = [
        from_hex(bytes.fromhex(e.spelled.strip().zfill(HEX_DIGITS))[::-1].hex()) for e in cache.entries if e.spelled
    ]
    plain = [e.scale for e in cache.entries if e.spelled]
    return bool(plain) and _plausible(plain) < 0.3 * len(plain) and _plausible(swapped) > 0.7 * len(plain)


def _plausible(scales: list[float]) -> int:
    return sum(math.isfinite(s) and 1e-5 < s < 100 for s in scales)
