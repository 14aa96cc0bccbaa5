"""Figures in words: bytes, shares, intervals."""

from collections.abc import Iterable, Sequence

from quantbench.records.evaluation import Measured, NotMeasurable


def size(count: float) -> str:
    """Bytes in decimal units, as file managers and NVIDIA's logs count them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def by_reason(reasons: Iterable[tuple[str, str]], *, most: int = 6) -> tuple[tuple[str, str], ...]:
    """(name, reason) pairs as (names, reason): names of one reason together, at most `most` of them written out."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons:
        groups.setdefault(reason, []).append(name)
    return tuple((listed(names, most=most), reason) for reason, names in groups.items())


def listed(names: Sequence[str], *, most: int) -> str:
    """Names with commas, at most `most` of them written out."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def percent(measured: Measured) -> str:
    """A share with its interval: 97.3 % (95.1 to 98.6)."""
    low, high = 100 * measured.low, 100 * measured.high
    return f"{100 * measured.value:.1f} % ({low:.1f} to {high:.1f})"


def points(measured: Measured) -> str:
    """A difference of shares in percentage points with its interval."""
    low, high = 100 * measured.low, 100 * measured.high
    return f"{100 * measured.value:+.2f} points ({low:+.2f} to {high:+.2f})"


def decibel(measured: Measured | NotMeasurable) -> str:
    """An SQNR with its interval, or why there is none; one image has no interval."""
    if isinstance(measured, NotMeasurable):
        return f"not measurable: {measured.reason}"
    if measured.low == measured.high:
        return f"{measured.value:.1f} dB"
    return f"{measured.value:.1f} dB ({measured.low:.1f} to {measured.high:.1f})"


def pixels(measured: Measured) -> str:
    """A distance with its interval."""
    return f"{measured.value:.2f} px ({measured.low:.2f} to {measured.high:.2f})"


def behind(measured: Measured | NotMeasurable) -> str:
    """How many of what a figure rests on: 1,000 images."""
    if isinstance(measured, NotMeasurable):
        return "-"
    return f"{measured.count:,} {measured.unit}"


def capitalized(text: str) -> str:
    """`text` as a sentence begins, unless its first word is a name such as mAP."""
    return text[:1].upper() + text[1:] if text[1:2].islower() else text


def moment(time: str) -> str:
    """A time as records have it (ISO 8601, UTC), as it is read: to the minute."""
    day, _, clock = time.partition("T")
    return f"{day} {clock[:5]} UTC" if clock.endswith("+00:00") else time
