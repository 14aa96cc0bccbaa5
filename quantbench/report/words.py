"""Figures in words: bytes, shares, intervals."""

from collections.abc import Mapping
from typing import Any


def size(count: float) -> str:
    """Bytes in decimal units, as file managers and NVIDIA's logs count them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def percent(measured: Mapping[str, Any]) -> str:
    """A share with its interval: 97.3 % (95.1 to 98.6)."""
    low, high = 100 * measured["low"], 100 * measured["high"]
    return f"{100 * measured['value']:.1f} % ({low:.1f} to {high:.1f})"


def points(measured: Mapping[str, Any]) -> str:
    """A difference of shares in percentage points with its interval."""
    low, high = 100 * measured["low"], 100 * measured["high"]
    return f"{100 * measured['value']:+.2f} points ({low:+.2f} to {high:+.2f})"


def decibel(measured: Mapping[str, Any]) -> str:
    """An SQNR with its interval."""
    return f"{measured['value']:.1f} dB ({measured['low']:.1f} to {measured['high']:.1f})"
