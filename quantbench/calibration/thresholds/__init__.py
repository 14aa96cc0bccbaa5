"""Threshold searches, one a file: each turns a Histogram into an amax, for the Layout of the integers over it."""

import difflib
from collections.abc import Callable
from typing import Protocol

from quantbench.calibration.histogram import Histogram
from quantbench.calibration.layout import SYMMETRIC, Layout
from quantbench.errors import QuantbenchError


class Threshold(Protocol):
    """A search: amax (unit of the tensor) of a histogram of |x|, its integers laid out as `layout` has it."""

    def __call__(self, histogram: Histogram, layout: Layout = SYMMETRIC, /) -> float: ...


METHODS = ("minmax", "entropy", "percentile", "mse", "legacy")


def threshold_method(name: str) -> Threshold:
    """The threshold function called `name`, one of METHODS; `percentile:99.9` sets the percentile.

    Raises QuantbenchError for an unknown name or a percentile outside (0, 100].
    """
    from quantbench.calibration.thresholds import entropy, legacy, minmax, mse, percentile

    base, colon, argument = name.partition(":")
    if base == "percentile" and colon:
        try:
            share = float(argument)
        except ValueError:
            raise QuantbenchError(f"percentile {argument!r} is not a number") from None
        percentile.check(share)
        return _of_values(lambda histogram: percentile.threshold(histogram, share))
    table: dict[str, Threshold] = {
        "minmax": _of_values(minmax.threshold),
        "entropy": entropy.threshold,
        "percentile": _of_values(percentile.threshold),
        "mse": mse.threshold,
        "legacy": _of_values(legacy.threshold),
    }
    if base not in table or colon:
        near = difflib.get_close_matches(base, METHODS, n=1, cutoff=0.6)
        meant = f"did you mean {near[0]}? " if near and near[0] != base else ""
        raise QuantbenchError(f"unknown threshold method {name!r}; {meant}there are {', '.join(METHODS)}")
    return table[base]


def _of_values(threshold: Callable[[Histogram], float]) -> Threshold:
    """A rule that asks how large the values are, whatever integers they become."""
    return lambda histogram, layout=SYMMETRIC: threshold(histogram)
