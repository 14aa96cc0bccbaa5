"""Threshold searches, one a file: each turns a Histogram into an amax."""

import difflib
from collections.abc import Callable

from quantbench.calibration.histogram import Histogram
from quantbench.errors import QuantbenchError

Threshold = Callable[[Histogram], float]
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
        return lambda histogram: percentile.threshold(histogram, share)
    table: dict[str, Threshold] = {
        "minmax": minmax.threshold,
        "entropy": entropy.threshold,
        "percentile": percentile.threshold,
        "mse": mse.threshold,
        "legacy": legacy.threshold,
    }
    if base not in table or colon:
        near = difflib.get_close_matches(base, METHODS, n=1, cutoff=0.6)
        meant = f"did you mean {near[0]}? " if near and near[0] != base else ""
        raise QuantbenchError(f"unknown threshold method {name!r}; {meant}there are {', '.join(METHODS)}")
    return table[base]
