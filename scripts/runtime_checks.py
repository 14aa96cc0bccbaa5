"""The checks of scripts/bench_runtime_gpu.py: each function takes a device and returns plain data."""

import gc
import itertools
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantbench.calibrator import Calibrator
from quantbench.engines.device import Device, Stream
from quantbench.engines.tensorrt_calibrator import DeviceFeeder
from quantbench.engines.tensorrt_session import LoadedEngine
from quantbench.errors import QuantbenchError
from scripts import torch_engine
from scripts.runtime_times import feed, images, load

MIB = 1 << 20
COPY_BYTES = 256 * MIB


def refusal(action: Callable[[], object]) -> str:
    """The line of the QuantbenchError that `action` raises; "" where it raises none."""
    try:
        action()
    except QuantbenchError as error:
        return str(error)
    return ""


def buffers(device: Device) -> dict[str, Any]:
    """Round trips of every type, bandwidth of page-locked and other memory, memory given back, too large a buffer."""
    random = np.random.default_rng(1)
    arrays: list[NDArray[Any]] = [
        random.standard_normal((3, 5)).astype(kind) for kind in ("float32", "float16", "float64")
    ]
    arrays += [random.integers(0, 2, (4, 7)).astype(kind) for kind in ("uint8", "int8", "int64", "bool")]
    arrays += [np.full((), 3.5, np.float32), np.empty((0, 4), np.float32), random.standard_normal((1 << 22,))]
    exact = all(_round_trip(device, array, pinned) for array in arrays for pinned in (False, True))
    strided = np.zeros((4, 6), np.float32)[:, ::2]
    buffer = device.allocate(strided.nbytes)
    try:
        device.download(strided, buffer)
        refused = False
    except ValueError:
        refused = True
    del buffer

    torch.cuda.empty_cache()
    free = device.memory()[0]
    held = [device.allocate(64 * MIB) for _ in range(16)]
    taken = free - device.memory()[0]
    held.clear()
    torch.cuda.empty_cache()
    error = refusal(lambda: device.allocate(1 << 44))
    return {
        "round_trips": 2 * len(arrays), "round_trips_exact": exact, "strided_array_refused": refused,
        "taken_by_1_gib_mib": taken / MIB, "not_given_back_mib": (free - device.memory()[0]) / MIB,
        "too_large": error, "works_after_that": _round_trip(device, arrays[0], True),
        "page_locked": _bandwidth(device, device.host_array((COPY_BYTES,), np.dtype(np.uint8))),
        "pageable": _bandwidth(device, np.ones(COPY_BYTES, np.uint8)),
    }  # fmt: skip


def _round_trip(device: Device, array: NDArray[Any], pinned: bool) -> bool:
    stream, buffer = device.stream(), device.allocate(array.nbytes)
    there, back = array.copy(), np.zeros_like(array)
    if pinned:
        there, back = (device.host_array(array.shape, array.dtype) for _ in range(2))
        there[...] = array
    device.upload(buffer, there, stream)
    device.download(back, buffer, stream)
    stream.synchronize()
    at_once = np.zeros_like(array)
    device.download(at_once, buffer)
    return np.array_equal(array, back) and np.array_equal(array, at_once)


def _bandwidth(device: Device, array: NDArray[Any]) -> dict[str, float]:
    """GB/s by events, and the share of a copy's time that the host waits in the call."""
    array[:] = 1
    stream, buffer = device.stream(), device.allocate(array.nbytes)
    found: dict[str, float] = {}
    ways: dict[str, Callable[[], None]] = {
        "h2d": lambda: device.upload(buffer, array, stream),
        "d2h": lambda: device.download(array, buffer, stream),
    }
    for name, copy in ways.items():
        times, waits = [], []
        for _ in range(12):
            before, after = device.event(), device.event()
            before.record(stream)
            start = time.perf_counter()
            copy()
            waits.append((time.perf_counter() - start) * 1e3)
            after.record(stream)
            times.append(after.milliseconds_since(before))
        ms = float(np.median(times[2:]))
        found |= {f"{name}_gb_per_s": array.nbytes / ms / 1e6, f"{name}_host_waits": float(np.median(waits[2:])) / ms}
    return found


def session(device: Device) -> dict[str, Any]:
    """Outputs against torch's own on the same weights, eager and as a graph, for changing batches."""
    loaded = load(device)
    context = loaded.context()
    worst: dict[str, float] = {}
    for batch in (1, 64, 8, 3, 64):
        worst[f"eager, batch {batch}"] = _error(context.run(feed(batch, batch)), loaded, feed(batch, batch))
    context.load(feed(8))
    context.send()
    context.capture()
    graph = context._graph
    for seed in range(5):
        worst[f"graph, inputs {seed}"] = _error(context.run(feed(8, seed)), loaded, feed(8, seed))
    kept = context._graph is graph and graph is not None
    worst["after another batch"] = _error(context.run(feed(2, 9)), loaded, feed(2, 9))
    stubborn = load(device, capturable=False).context()
    stubborn.load(feed(4))
    stubborn.send()
    line = refusal(stubborn.capture)
    return {
        "largest_difference_to_torch": worst, "graph_replayed": kept, "graph_dropped": context._graph is None,
        "uncapturable": line, "runs_after_that": _error(stubborn.run(feed(4, 2)), loaded, feed(4, 2)) == 0,
        "outside_the_profile": refusal(lambda: context.run(feed(65))),
    }  # fmt: skip


def _torch_answer(loaded: LoadedEngine, given: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    with torch.inference_mode():
        value: Any = torch.from_numpy(given[torch_engine.INPUT]).cuda()
        for _, stage in loaded.engine._stages:
            value = stage(value)
        answer: NDArray[np.float32] = value.float().cpu().numpy()
    return answer


def _error(outputs: dict[str, NDArray[Any]], loaded: LoadedEngine, given: dict[str, NDArray[np.float32]]) -> float:
    wanted = _torch_answer(loaded, given)
    assert np.abs(wanted).max() > 1e-3, "a network that says nothing"
    return float(np.abs(outputs[torch_engine.OUTPUT] - wanted).max())


def order(device: Device, streams: int = 4, rounds: int = 20) -> dict[str, Any]:
    """Stamps of all calls on one clock: in order inside a stream, overlapping between streams."""
    contexts = [load(device).context() for _ in range(streams)]
    for context in contexts:
        context.load(feed(64))
        context.send()
        context.capture()
    zero = device.event()
    zero.record(contexts[0].stream)
    contexts[0].stream.synchronize()
    stamps: list[list[Any]] = [[] for _ in contexts]
    for _ in range(rounds):
        for mine, context in zip(stamps, contexts, strict=True):
            mine.append(_stamp(device, context.stream))
            context.send()
            mine.append(_stamp(device, context.stream))
            context.enqueue()
            mine.append(_stamp(device, context.stream))
            context.fetch()
            mine.append(_stamp(device, context.stream))
    times = np.array([[event.milliseconds_since(zero) for event in mine] for mine in stamps])
    calls = times.reshape(streams, rounds, 4)
    spans = sorted((float(c[0]), float(c[3])) for stream in calls for c in stream)
    overlapping = sum(a[1] > b[0] for a, b in itertools.pairwise(spans))
    return {
        "streams": streams, "calls": len(spans), "in_order": bool((np.diff(times, axis=1) >= 0).all()),
        "calls_that_overlap_the_next": overlapping, "span_ms": float(times.max()),
        "sum_of_calls_ms": float((calls[:, :, 3] - calls[:, :, 0]).sum()),
    }  # fmt: skip


def _stamp(device: Device, stream: Stream) -> Any:
    event = device.event()
    event.record(stream)
    return event


def leaks(device: Device, runs: int = 1000, cycles: int = 100) -> list[dict[str, Any]]:
    """Memory after many runs, after many contexts, after many contexts whose network runs and is captured.

    torch keeps memory for each stream that it ever worked in, so its share is given and its caches are emptied before
    each look. What quantbench loses would show in the first three, where no new stream carries work of torch.
    """
    loaded = load(device)
    context = loaded.context()
    given = feed(8)

    def own() -> None:
        other = loaded.context()
        other.load(given)

        def copies() -> None:
            other.send()
            other.fetch()

        device.capture(other.stream, copies).launch(other.stream)
        first, second = _stamp(device, other.stream), _stamp(device, other.stream)
        second.milliseconds_since(first)
        other.stream.synchronize()

    def all_of_it() -> None:
        other = loaded.context()
        other.load(given)
        other.send()
        other.capture()
        other.run(given)

    steps: dict[str, tuple[Callable[[], object], int]] = {
        "runs": (lambda: context.run(given), runs),
        "contexts, buffers, events, graphs of copies": (own, cycles),
        "contexts with captured networks": (all_of_it, cycles),
    }
    looks = []
    for name, (work, times) in steps.items():
        # The first ones fill torch's caches: it hands out 32 streams in turn.
        for _ in range(40):
            work()
        before = _used(device)
        for _ in range(times):
            work()
        after = _used(device)
        looks.append({"of": name, "times": times, **{f"{k}_more": after[k] - before[k] for k in after}})
    return looks


def _used(device: Device) -> dict[str, float]:
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    free, total = device.memory()
    return {
        "gpu_mib": (total - free) / MIB, "torch_reserved_mib": torch.cuda.memory_reserved() / MIB,
        "torch_allocated_mib": torch.cuda.memory_allocated() / MIB,
        "process_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def calibrator(device: Device) -> dict[str, Any]:
    """Addresses that a TensorRT calibrator gets: whether the batch lies there, and whether all share one buffer."""
    batches = [images(64, seed) for seed in range(6)] + [images(5, 9)]
    # Large, from ordinary memory, and read in a stream that waits for nobody: a copy still under way would show.
    feeder = DeviceFeeder(Calibrator(lambda: ({"image": b} for b in batches), 64), device)
    pointers: list[int] = []
    exact: list[bool] = []
    cuda: Any = torch.cuda
    stream = cuda.Stream()
    while (got := feeder.get_batch(["image"])) is not None:
        with torch.cuda.stream(stream):
            there = torch_engine._at(got[0], batches[0].shape, True).clone()
        stream.synchronize()
        exact.append(bool(np.array_equal(there.cpu().numpy(), batches[len(exact)])))
        pointers.append(got[0])
    return {"batches": len(pointers), "exact": all(exact), "one_buffer": len(set(pointers)) == 1}
