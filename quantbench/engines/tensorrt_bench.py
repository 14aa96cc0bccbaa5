"""Time an engine as trtexec does: warm-up, several streams, CUDA graph, events around each part of a call."""

import time
from dataclasses import dataclass

import numpy as np

from quantbench.engines.device import Event
from quantbench.engines.tensorrt_session import Context, Feed, LoadedEngine
from quantbench.engines.timings import Timings, images_of


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """trtexec's defaults: 200 ms warm-up, then at least 10 calls and 3 seconds."""

    warm_up_seconds: float = 0.2
    seconds: float = 3.0
    least_calls: int = 10
    streams: int = 1
    cuda_graph: bool = False
    transfers: bool = True


@dataclass(slots=True)
class _Call:
    stamps: tuple[Event, Event, Event, Event]
    enqueue_ms: float


def bench(loaded: LoadedEngine, feed: Feed, options: BenchOptions) -> Timings:
    """Call the engine on `feed` over and over, one call in flight a stream.

    Copies and compute of a call follow one another, as with `trtexec --exposeDMA`; several streams overlap them.
    Raises QuantbenchError where the feed does not fit or the GPU refuses.
    """
    contexts = [loaded.context() for _ in range(options.streams)]
    for context in contexts:
        context.load(feed)
        context.send()
        if options.cuda_graph:
            context.capture()
    _warm_up(contexts, options.warm_up_seconds)
    calls: list[_Call] = []
    start = time.perf_counter()
    while len(calls) < options.least_calls or time.perf_counter() - start < options.seconds:
        context = contexts[len(calls) % len(contexts)]
        context.stream.synchronize()
        calls.append(_call(loaded, context, options.transfers))
    for context in contexts:
        context.stream.synchronize()
    wall = time.perf_counter() - start
    between = [
        np.array([call.stamps[i + 1].milliseconds_since(call.stamps[i]) for call in calls], np.float64)
        for i in range(3)
    ]
    return Timings(
        compute=between[1],
        enqueue=np.array([call.enqueue_ms for call in calls], np.float64),
        h2d=between[0] if options.transfers else None,
        d2h=between[2] if options.transfers else None,
        wall_seconds=wall,
        images_per_call=images_of(feed),
    )


def _warm_up(contexts: list[Context], seconds: float) -> None:
    end = time.perf_counter() + seconds
    while True:
        for context in contexts:
            context.enqueue()
            context.stream.synchronize()
        if time.perf_counter() >= end:
            return


def _call(loaded: LoadedEngine, context: Context, transfers: bool) -> _Call:
    device = loaded.device
    stamps = (device.event(), device.event(), device.event(), device.event())
    stamps[0].record(context.stream)
    if transfers:
        context.send()
    stamps[1].record(context.stream)
    before = time.perf_counter()
    context.enqueue()
    enqueue_ms = (time.perf_counter() - before) * 1e3
    stamps[2].record(context.stream)
    if transfers:
        context.fetch()
    stamps[3].record(context.stream)
    return _Call(stamps, enqueue_ms)
