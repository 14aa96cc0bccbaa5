"""What `tune` and `sensitivity` left in a run folder, for the page: trials as points, costs of regions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.records.search import SENSITIVITY, TUNE, RegionCost, Sensitivity, Trial, Trials
from quantbench.report.figures import Opened
from quantbench.report.page.data import LayerRow, Milliseconds, Point, Region

MACS = "share of multiply-adds, %"


def trial_points(one: Opened, device: str) -> list[Point]:
    """Trials of the search that made the run, by its measure; latency is known where `tune` had a device."""
    if one.accuracy is None:
        return []
    name = (
        one.accuracy.name if one.accuracy.unit == "dB" or one.accuracy.change is None else f"{one.accuracy.name}_int8"
    )
    factor = 100 if one.accuracy.unit == "%" else 1
    points = []
    for trial in _trials(one.folder):
        found = trial.measures.get(name)
        if found is None:
            continue
        ms = trial.ms
        latency = {device: Milliseconds(ms, ms, ms, "predicted")} if ms is not None and device else {}
        value, low, high = factor * found.value, factor * found.low, factor * found.high
        points.append(
            Point(str(one.folder), f"trial {trial.number}", value, low, high, latency, trial.command, trial.why)
        )
    return points


def region_costs(folder: Path) -> tuple[RegionCost, ...]:
    """Regions of sensitivity.json, the costliest first."""
    try:
        return Sensitivity.load(folder / SENSITIVITY).regions
    except QuantbenchError:
        return ()  # nothing searched here, or another version did


def region_rows(costs: Sequence[RegionCost]) -> tuple[Region, ...]:
    """Share of all noise that each region brings, against what its INT8 saves."""
    whole = sum(cost.noise for cost in costs) or 1.0
    return tuple(
        Region(cost.name, 100 * cost.noise / whole, {**cost.saved_ms, MACS: 100 * cost.macs}, "% of all noise")
        for cost in costs
    )


def with_costs(rows: tuple[LayerRow, ...], costs: Sequence[RegionCost]) -> tuple[LayerRow, ...]:
    """Rows with the share of noise of the region that holds their nodes."""
    whole = sum(cost.noise for cost in costs) or 1.0
    share = {node: 100 * cost.noise / whole for cost in costs for node in cost.weighted}
    return tuple(
        replace(row, cost=next((share[node] for node in row.nodes if node in share), None)) if share else row
        for row in rows
    )


def _trials(folder: Path) -> tuple[Trial, ...]:
    try:
        return Trials.load(folder / TUNE).trials
    except QuantbenchError:
        return ()
