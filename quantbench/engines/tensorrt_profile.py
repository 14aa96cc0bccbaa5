"""Per-layer times of an engine through IProfiler, in the JSON form of `trtexec --exportProfile`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from quantbench.engines.tensorrt_session import Feed, LoadedEngine
from quantbench.json_types import JsonObject


def profile(loaded: LoadedEngine, feed: Feed, *, calls: int = 50, warm_up: int = 5) -> list[JsonObject]:
    """Times of every layer over `calls` calls (`warm_up` more before); without CUDA graph, which hides layers."""
    times: dict[str, list[float]] = {}
    context = loaded.context(profiler=_profiler(loaded.trt, times))
    context.load(feed)
    context.send()
    for index in range(warm_up + calls):
        context.enqueue()
        context.stream.synchronize()
        if index + 1 == warm_up:
            times.clear()
    return as_json(times, calls)


def as_json(times: Mapping[str, list[float]], calls: int) -> list[JsonObject]:
    """`[{"count": N}, {name, timeMs, averageMs, medianMs, percentage}, …]` from layer name to milliseconds a call."""
    whole = sum(sum(values) for values in times.values()) or 1.0
    rows: list[JsonObject] = [
        {
            "name": name,
            "timeMs": float(sum(values)),
            "averageMs": float(np.mean(values)),
            "medianMs": float(np.median(values)),
            "percentage": 100.0 * float(sum(values)) / whole,
        }
        for name, values in times.items()
    ]
    return [{"count": calls}, *rows]


def _profiler(trt: Any, times: dict[str, list[float]]) -> Any:
    # Made by type(): the base class is only known at run time.
    def start(self: Any) -> None:
        trt.IProfiler.__init__(self)

    def report(self: Any, layer_name: str, ms: float) -> None:
        times.setdefault(layer_name, []).append(ms)

    return type("Profiler", (trt.IProfiler,), {"__init__": start, "report_layer_time": report})()
