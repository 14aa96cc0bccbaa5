"""The times of scripts/bench_runtime_gpu.py: each function takes a device and returns plain data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantbench.engines.device import Device
from quantbench.engines.tensorrt_bench import BenchOptions, bench
from quantbench.engines.tensorrt_profile import profile
from quantbench.engines.tensorrt_session import LoadedEngine
from quantbench.statistics import percentile
from scripts import torch_engine


def images(batch: int, seed: int = 0, size: int = 224) -> NDArray[np.float32]:
    """Noise [batch, 3, size, size]."""
    return np.random.default_rng(seed).standard_normal((batch, 3, size, size), np.float32)


def load(device: Device, **settings: Any) -> LoadedEngine:
    """An engine of scripts/torch_engine.py."""
    return LoadedEngine(torch_engine, torch_engine.engine(**settings), device)


def feed(batch: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """One input."""
    return {torch_engine.INPUT: images(batch, seed)}


def benches(device: Device, seconds: float = 1.0) -> list[dict[str, Any]]:
    """`bench` at two batches with 1, 2 and 4 streams, eager and as graphs."""
    loaded, rows = load(device), []
    for batch in (1, 64):
        for graph in (False, True):
            for streams in (1, 2, 4):
                options = BenchOptions(0.3, seconds, 10, streams, graph)
                timings = bench(loaded, feed(batch), options)
                compute = np.sort(timings.compute)
                same = all(
                    percentile(compute, q) == np.percentile(compute, q, method="inverted_cdf") for q in (90, 95, 99)
                )
                rows.append(
                    {"batch": batch, "cuda_graph": graph, "streams": streams, "percentiles_as_numpy": same,
                     "gpu_busy": float(timings.latency.sum() / 1e3 / timings.wall_seconds), **timings.to_json()}
                )  # fmt: skip
    return rows


def clocks(device: Device, batch: int = 256, calls: int = 200) -> dict[str, Any]:
    """GPU time of a call by quantbench's events, by torch's events, and as the sum of kernels by torch.profiler.

    Eager calls are the session's own, stamped by torch; of the graph torch makes one for itself. The batch is large, so
    that the GPU and not the launching from Python takes the time.
    """
    loaded = load(device, profiles=((1, 8, batch),))
    found: dict[str, Any] = {"batch": batch, "calls": calls}
    for name, graph in (("eager", False), ("graph", True)):
        options = BenchOptions(0.3, 0, calls, 1, graph, transfers=False)
        found[f"quantbench_{name}_ms"] = float(np.median(bench(loaded, feed(batch), options).compute))
    context = loaded.context()
    context.load(feed(batch))
    context.send()
    cuda: Any = torch.cuda
    stream = cuda.ExternalStream(context.stream.handle)
    found["torch_events_eager_ms"] = _torch_events(context.enqueue, stream, calls)
    found["torch_events_graph_ms"] = _torch_events(_torch_graph(loaded, batch), torch.cuda.current_stream(), calls)
    context.capture()
    for _ in range(20):
        context.enqueue()
    context.stream.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        for _ in range(50):
            context.enqueue()
        context.stream.synchronize()
    kernels = [e for e in seen.events() if e.device_type.name == "CUDA"]
    found["torch_profiler_kernels_a_call"] = len(kernels) / 50
    found["torch_profiler_graph_ms"] = sum(e.self_device_time_total for e in kernels) / 50 / 1e3
    layers = profile(loaded, feed(batch), calls=50)
    found["layer_profile_ms"] = sum(layer["medianMs"] for layer in layers[1:])
    found["layers"] = layers
    return found


def _torch_graph(loaded: LoadedEngine, batch: int) -> Callable[[], None]:
    """The network as a graph that torch alone makes."""
    value = torch.from_numpy(images(batch)).cuda()

    def run() -> None:
        result: Any = value
        for _, stage in loaded.engine._stages:
            result = stage(result)

    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode():
        run()
        with torch.cuda.graph(graph):
            run()
    return graph.replay


def _torch_events(work: Callable[[], None], stream: Any, calls: int) -> float:
    """Median GPU time of `work` in `stream`."""
    times = []
    event: Any = torch.cuda.Event
    with torch.cuda.stream(stream):
        for _ in range(calls + 20):
            before, after = (event(enable_timing=True) for _ in range(2))
            stream.synchronize()
            before.record(stream)
            work()
            after.record(stream)
            after.synchronize()
            times.append(before.elapsed_time(after))
    return float(np.median(times[20:]))
