"""Several calibration files of one network into one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from quantbench.cache.model import CalibrationCache
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.errors import QuantbenchError

# What becomes of a tensor that several files hold; values in the order of the files.
POLICIES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "max": max,
    "min": min,
    "mean": lambda values: sum(values) / len(values),
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}


@dataclass(frozen=True, slots=True)
class Merged:
    """`conflicts` maps tensors on which the files differ to their amax in each file that has them."""

    ranges: Ranges
    conflicts: Mapping[str, tuple[float, ...]]


def merge(caches: Sequence[CalibrationCache], policy: str = "max") -> Merged:
    """Union of the tensors, in the order of first appearance; `policy` decides between different ranges.

    "max" is what calibrating with min-max on all images at once gives. Raises QuantbenchError for other policies.
    """
    if policy not in POLICIES:
        raise QuantbenchError(f"merge policy {policy!r} is none of {', '.join(POLICIES)}")
    values: dict[str, list[float]] = {}
    for cache in caches:
        for name, entry in cache.by_name.items():
            values.setdefault(name, []).append(entry.amax)
    ranges = {name: TensorRange(POLICIES[policy](found), f"merged ({policy})") for name, found in values.items()}
    conflicts = {name: tuple(found) for name, found in values.items() if len(set(found)) > 1}
    return Merged(Ranges(ranges), conflicts)
