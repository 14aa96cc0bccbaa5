"""Ranges that a user should look at: thresholds that clip much, tensors that never moved."""

from collections.abc import Iterable

from quantbench.calibration.ranges import Ranges

_MUCH = 0.01
# A value between a threshold and a maximum so near moves by two steps of INT8 at most.
_NEAR = 1 - 2 / 127
# One value a channel: black pictures, white ones, after mean and std.
_BLANK = 3


def range_warnings(ranges: Ranges, used: Iterable[str] | None = None) -> list[str]:
    """One sentence a tensor, those that clip most first; of the `used` ones, those that get INT8 (None: all)."""
    wanted = None if used is None else set(used)
    found: list[tuple[float, str]] = []
    for name in ranges:
        if wanted is not None and name not in wanted:
            continue
        tensor = ranges[name]
        clipped, observed = float(tensor.histogram.get("share_clipped", 0)), tensor.histogram.get("observed_max")
        if tensor.amax == 0:
            found.append((1.0, f"{name} was zero in every calibration image"))
        elif clipped > _MUCH and observed and tensor.amax < _NEAR * observed:
            # Of mse that is the least squared error, and auto has held minmax against it.
            out = "--calibrator minmax clips nothing" if tensor.method == "mse" else "try --calibrator mse or minmax"
            found.append(
                (
                    clipped,
                    f"{tensor.method} clips {100 * clipped:.1f} % of {name} (threshold {tensor.amax / observed:.2f} of "
                    f"its maximum); {out}",
                )
            )
    first = next(iter(ranges), "")  # inputs of the network come first
    if first and ranges[first].histogram.get("bins_filled", _BLANK + 1) <= _BLANK:
        found.append((2.0, f"input {first} holds at most {_BLANK} different values in all images: they are blank"))
    return [text for _, text in sorted(found, reverse=True)]
