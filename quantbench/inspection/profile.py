"""Per-layer times (trtexec's --exportProfile, Torch-TensorRT's latency lists, the log's table) joined with layers."""

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantbench.inspection.logs.profile_table import ProfileTable
from quantbench.layers.layer import Layer
from quantbench.layers.names import strip_profile


@dataclass(frozen=True, slots=True)
class Row:
    """One profiled layer; times in ms a run, `percentage` as the file states it (None where it does not)."""

    name: str
    mean_ms: float
    median_ms: float | None = None
    percentage: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """Rows in execution order; `iterations` is 0 where the file does not tell."""

    iterations: int
    rows: tuple[Row, ...]

    @property
    def total_ms(self) -> float:
        """Sum of the layers' mean times in ms."""
        return sum(row.mean_ms for row in self.rows)


def read_profile(data: Sequence[Any]) -> Profile:
    """trtexec's profile JSON: `[{"count": N}, {name, timeMs, averageMs, medianMs, percentage}, …]`."""
    iterations = 0
    rows: list[Row] = []
    for entry in data:
        if not isinstance(entry, Mapping):
            continue
        if "name" not in entry:
            iterations = int(_number(entry.get("count")) or iterations)
            continue
        mean = _number(entry.get("averageMs"))
        if mean is None:
            total = _number(entry.get("timeMs")) or 0.0
            mean = total / iterations if iterations else total
        rows.append(
            Row(str(entry["name"]), mean, _number(entry.get("medianMs")), _number(entry.get("percentage")))
        )  # fmt: skip
    return Profile(iterations, tuple(rows))


def read_latency_lists(data: Mapping[str, Any]) -> Profile:
    """Torch-TensorRT's IProfiler JSON: layer name to a list of times in ms, one a run."""
    rows: list[Row] = []
    runs = 0
    for name, times in data.items():
        values = [float(t) for t in times if _number(t) is not None] if isinstance(times, list) else []
        if values:
            runs = max(runs, len(values))
            rows.append(Row(name, statistics.fmean(values), statistics.median(values)))
    return Profile(runs, tuple(rows))


def profile_of_table(table: ProfileTable) -> Profile | None:
    """The profile that a log's table states, None where the log has none."""
    if not table.rows:
        return None
    return Profile(table.iterations, tuple(Row(name, mean, None, share) for name, _, mean, share in table.rows))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def join(layers: Sequence[Layer], profile: Profile) -> tuple[tuple[Layer, ...], tuple[Row, ...]]:
    """Layers with their mean times, and the rows that belong to no layer.

    By position where the names agree one by one, else by name; a name that stands more than once is taken in order.
    """
    waiting: dict[str, deque[int]] = defaultdict(deque)
    for index, row in enumerate(profile.rows):
        waiting[strip_profile(row.name)].append(index)
    taken: set[int] = set()
    timed: list[Layer] = []
    same_length = len(layers) == len(profile.rows)
    for index, layer in enumerate(layers):
        name = strip_profile(layer.name)
        queue = waiting.get(name)
        if same_length and strip_profile(profile.rows[index].name) == name and index not in taken:
            found: int | None = index
            if queue and index in queue:
                queue.remove(index)
        else:
            found = queue.popleft() if queue else None
        if found is None:
            timed.append(layer)
            continue
        taken.add(found)
        timed.append(replace(layer, time_ms=profile.rows[found].mean_ms))
    rest = tuple(row for index, row in enumerate(profile.rows) if index not in taken)
    return tuple(timed), rest


def shares(layers: Sequence[Layer]) -> tuple[float | None, ...]:
    """Share of each layer in the time of all, as fractions that add up to 1; None for layers without a time."""
    total = sum(layer.time_ms or 0.0 for layer in layers)
    if total <= 0:
        return tuple(None for _ in layers)
    return tuple(None if layer.time_ms is None else layer.time_ms / total for layer in layers)
