"""Time an engine as trtexec does: warm-up, several streams or threads, CUDA graph, events around each part of a
call."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from quantbench.engines.device import Event
from quantbench.engines.nvtx import ranges
from quantbench.engines.tensorrt_session import Context, Feed, LoadedEngine
from quantbench.engines.timings import Timings, images_of


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """trtexec's defaults: 200 ms warm-up, then at least 10 calls and 3 seconds.

    `streams` contexts are fed by one thread in turn, `contexts` each by a thread of its own; one of the two is 1.
    """

    warm_up_seconds: float = 0.2
    seconds: float = 3.0
    least_calls: int = 10
    streams: int = 1
    cuda_graph: bool = False
    transfers: bool = True
    contexts: int = 1
    spin_wait: bool = False
    profile_index: int | None = None


@dataclass(slots=True)
class _Call:
    stamps: tuple[Event, Event, Event, Event]
    enqueue_ms: float


def bench(loaded: LoadedEngine, feed: Feed, options: BenchOptions) -> Timings:
    """Call the engine on `feed` over and over, one call in flight a stream.

    Copies and compute of a call follow one another, as with `trtexec --exposeDMA`; several streams overlap them.
    Raises QuantbenchError where the feed does not fit or the GPU refuses.
    """
    contexts = [loaded.context(profile=options.profile_index) for _ in range(max(options.streams, options.contexts))]
    for context in contexts:
        context.load(feed)
        context.send()
        if options.cuda_graph:
            context.capture()
    with ranges.stage("warm-up"):
        _warm_up(contexts, options.warm_up_seconds)
    zero = loaded.device.event()
    zero.record(contexts[0].stream)
    with ranges.stage("measurement"):
        start = time.perf_counter()
        if options.contexts > 1:
            with ThreadPoolExecutor(options.contexts) as pool:
                shares = pool.map(lambda context: _drive(loaded, [context], options, start), contexts)
                calls = [call for share in shares for call in share]
        else:
            calls = _drive(loaded, contexts, options, start)
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
        started=np.array([call.stamps[0].milliseconds_since(zero) for call in calls], np.float64),
    )


def _drive(loaded: LoadedEngine, contexts: list[Context], options: BenchOptions, start: float) -> list[_Call]:
    """Calls in turn until there are enough and time is up; of several threads each makes its share."""
    least = -(-options.least_calls // options.contexts)
    calls: list[_Call] = []
    while len(calls) < least or time.perf_counter() - start < options.seconds:
        context = contexts[len(calls) % len(contexts)]
        _wait(context, options.spin_wait)
        with ranges.batch(len(calls)):
            calls.append(_call(loaded, context, options.transfers))
    for context in contexts:
        _wait(context, options.spin_wait)
    return calls


def _wait(context: Context, spin: bool) -> None:
    """Until the stream is empty: the thread sleeps in the driver, or asks again and again and so reacts sooner."""
    while spin and not context.stream.done():
        pass
    if not spin:
        context.stream.synchronize()


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
