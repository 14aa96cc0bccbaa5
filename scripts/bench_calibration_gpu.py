"""Calibration on an NVIDIA GPU against the forward pass, copy bandwidth and ModelOpt; and the sweep on CPU cores.

    python scripts/bench_calibration_gpu.py OUT [--parts equal bandwidth fused onnx …] [--images 1024] [--batch 64]
    python scripts/bench_calibration_gpu.py OUT --parts onnx --device cpu --images 8 --batch 4    (does it run?)

Needs torch with CUDA and torchvision; YOLOv8m needs ultralytics, ModelOpt nvidia-modelopt, part onnx onnxruntime-gpu
(what is missing is named in the JSON). Batches lie on the card beforehand, those of part onnx on the host; decoding is
in no figure. Writes OUT/calibration-gpu.json.
"""

import argparse
import copy
import json
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quantbench.calibration.native import load
from quantbench.calibration.sweep import Counter, histogram_of
from quantbench.cores import usable_cores
from quantbench.qat import fused
from quantbench.qat.counter import TensorCounter
from quantbench.qat.device_sweep import JOBS
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import collect, ranges_of
from quantbench.qat.quantizer import lsq
from quantbench.qat.trace import trace
from quantbench.qat.yolo import exporting, float_modules
from quantbench.qdq.options import PlacementOptions
from scripts.calibration_onnx import cases
from scripts.calibration_onnx import equal as same_histogram

GPU = torch.device("cuda")
_EVENT: Any = torch.cuda.Event
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


# More than the card's cache holds.
_ROTATED_MB = 160


def milliseconds(works: list[Callable[[], Any]], repeats: int = 12) -> float:
    """Median time of one of `works` on the card. They are captured as a CUDA graph, several rounds of all of them, so
    that no launch from Python is in the figure; each should have memory of its own, or the cache is measured.
    """
    for work in works:
        work()
    torch.cuda.synchronize()
    rounds = max(1, 16 // len(works))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(rounds):
            for work in works:
                work()
    times = []
    for _ in range(repeats):
        start, end = (_EVENT(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / rounds / len(works))
    return float(np.median(times[2:]))


def equal() -> dict[str, Any]:
    """Histograms of the kernel, of torch's operators and of the CPU for the same values: all must be the same."""
    generator = torch.Generator().manual_seed(0)
    sizes = (1, 3, 8, 4097, 100_003, 1 << 20, 5_000_011)
    found = {"cases": 0, "kernel": 0, "operators": 0}
    for dtype in DTYPES:
        for scale in (1.0, 1e-30, 3e4, 0.0):
            parts = [(torch.randn(n, generator=generator) * scale * (i + 1)).to(dtype) for i, n in enumerate(sizes)]
            parts[3] = torch.relu(parts[3])
            alone = [histogram_of(part.float().numpy()) for part in parts]
            for order in (parts, parts[::-1]):
                counters = {
                    "kernel": TensorCounter(2 + len(sizes), GPU),
                    "operators": TensorCounter(2 + len(sizes), GPU, compiled=False),
                }  # fmt: skip
                assert counters["kernel"]._kernel is not None
                expected = histogram_of(torch.cat(parts).float().numpy())
                found["cases"] += 1
                for name, counter in counters.items():
                    for part in order:
                        counter.add(1, part.to(GPU))
                    # In one launch: all into one row, then each into its own.
                    counter.add_all([(0, part.to(GPU)) for part in order])
                    counter.add_all([(2 + i, part.to(GPU)) for i, part in enumerate(parts)])
                    pairs = zip(counter.histograms(), (expected, expected, *alone), strict=True)
                    found[name] += all(same_histogram(got, right) for got, right in pairs)
    broken = TensorCounter(2, GPU)
    broken.add(0, torch.tensor([1.0, float("nan"), float("inf")], device=GPU))
    broken.add(1, torch.tensor([1.0, -float("inf")], device=GPU))
    nan, infinite = broken.histograms()
    return {**found, "nan_found": bool(np.isnan(nan.amax)), "infinity_found": infinite.amax == float("inf")}


def bandwidth() -> list[dict[str, Any]]:
    """The kernel's bytes a second as a share of what a copy moves (read and written), for 1 to 512 MB: tensors in
    launches of their own, and several in one, as calibration counts them."""
    rows = []
    for dtype in DTYPES:
        for size in (1, 4, 16, 64, 205, 512):
            count = size * 1_000_000 // torch.tensor([], dtype=dtype).element_size()
            sets = max(2, -(-_ROTATED_MB // size))
            for name, x in (
                ("relu", torch.relu(torch.randn(count, device=GPU)).to(dtype)),
                ("normal", torch.randn(count, device=GPU).to(dtype)),
            ):
                counter, xs = TensorCounter(1, GPU), [x.clone() for _ in range(sets)]
                others = [torch.empty_like(x) for _ in range(sets)]
                copied = milliseconds([partial(other.copy_, each) for other, each in zip(others, xs, strict=True)])
                counted = milliseconds([partial(counter.add, 0, each) for each in xs])
                several = TensorCounter(JOBS, GPU)
                launches = [list(enumerate(xs[at : at + JOBS])) for at in range(0, len(xs), JOBS)]
                at_once = milliseconds([partial(several.add_all, launch) for launch in launches])
                together = at_once * len(launches) / sets
                reduced = milliseconds([partial(_largest, each) for each in xs])
                rows.append(
                    {"dtype": str(dtype).removeprefix("torch."), "values": name, "MB": size, "copy_ms": copied,
                     "sweep_ms": counted, "abs_amax_ms": reduced, "copy_GBps": 2 * size / copied,
                     "sweep_GBps": size / counted, "share_of_copy": size / counted / (2 * size / copied),
                     "in_launches_of": min(JOBS, sets), "together_ms": together,
                     "together_share_of_copy": size / together / (2 * size / copied)}
                )  # fmt: skip
    return rows


def _largest(x: Tensor) -> Tensor:
    return x.abs().amax()


def resnet50() -> tuple[nn.Module, int]:
    from torchvision.models import resnet50 as build

    return build(weights=None).eval(), 224


def yolov8m() -> tuple[nn.Module, int]:
    from ultralytics.nn.tasks import DetectionModel

    return DetectionModel("yolov8m.yaml", verbose=False).eval(), 320


def calibration(build: Callable[[], tuple[nn.Module, int]], images: int, batch: int) -> dict[str, Any]:
    """Seconds over all images in FP16: plain forward, ours, ModelOpt's maximum and histogram; the same with graphs."""
    model, size = build()
    model = model.to(GPU)
    example = torch.rand(2, 3, size, size, device=GPU)
    quantized = copy.deepcopy(model)
    detector = hasattr(model, "yaml")
    with exporting(quantized) if detector else nullcontext():
        traced = trace(quantized, example)
    insert(quantized, traced, plan_for(traced, PlacementOptions(), float_modules(quantized) if detector else ()))
    model, quantized = half(model), half(quantized)
    batches = [
        torch.randn(batch, 3, size, size, device=GPU, dtype=torch.float16).to(memory_format=torch.channels_last)
        for _ in range(images // batch)
    ]

    def plain() -> None:
        with torch.no_grad():
            for x in batches:
                model(x)

    times = interleaved({"plain": plain, "quantbench": lambda: collect(quantized, lambda: batches)})
    histograms = collect(quantized, lambda: batches)
    search = time.perf_counter()
    ranges_of(histograms, "entropy")
    report: dict[str, Any] = {
        "size": size, "tensors": len(histograms), "seconds": times, "to_plain": times["quantbench"] / times["plain"],
        "entropy_search_s": time.perf_counter() - search,
    }  # fmt: skip
    report["graphs"] = attempt(lambda: graphs(model, quantized, batches))
    report["modelopt"] = attempt(lambda: modelopt(build, batches, times["plain"]))
    return report


def half(model: nn.Module) -> nn.Module:
    """FP16, channels last."""
    loose: Any = model.half()
    made: nn.Module = loose.to(memory_format=torch.channels_last)
    return made


def graphs(model: nn.Module, quantized: nn.Module, batches: list[Tensor]) -> dict[str, float]:
    """Both forward passes captured once as a CUDA graph and replayed for every batch."""
    from quantbench.qat.observe import observing

    given = batches[0].clone()
    counter: list[TensorCounter] = []

    def capture(net: nn.Module) -> torch.cuda.CUDAGraph:
        with torch.no_grad():
            for _ in range(3):
                net(given)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph), counter[0].together():
                net(given)
        return graph

    def replay(graph: torch.cuda.CUDAGraph) -> Callable[[], None]:
        def run() -> None:
            for x in batches:
                given.copy_(x)
                graph.replay()

        return run

    with observing(quantized, GPU) as made:
        counter.append(made)
        times = interleaved({"plain": replay(capture(model)), "quantbench": replay(capture(quantized))})
    return {**times, "to_plain": times["quantbench"] / times["plain"]}


def modelopt(build: Callable[[], tuple[nn.Module, int]], batches: list[Tensor], plain: float) -> dict[str, Any]:
    """ModelOpt's torch calibration of the same network and batches, FP16."""
    import modelopt
    import modelopt.torch.quantization as mtq

    found: dict[str, Any] = {"version": modelopt.__version__}
    model = half(build()[0].to(GPU))

    def loop(net: nn.Module) -> None:
        with torch.no_grad():
            for x in batches:
                net(x)

    torch.cuda.synchronize()
    start = time.perf_counter()
    mtq.quantize(model, copy.deepcopy(mtq.INT8_DEFAULT_CFG), loop)
    torch.cuda.synchronize()
    found["max"] = {"seconds": time.perf_counter() - start}
    found["max"]["to_plain"] = found["max"]["seconds"] / plain
    return found


def interleaved(works: dict[str, Callable[[], Any]], rounds: int = 5) -> dict[str, float]:
    """Median seconds of each, rounds interleaved, the card idle before and after."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def cores() -> dict[str, Any]:
    """Nanoseconds an element of the CPU's sweep by threads, 64 M float32 values of a ReLU."""
    values = np.maximum(np.random.default_rng(0).standard_normal(1 << 26, dtype=np.float32), 0)
    found: dict[str, Any] = {"compiled": load() is not None, "cores": usable_cores()}
    for dtype in (np.float32, np.float16):
        array = values.astype(dtype)
        for threads in (1, 2, 4, 8, 16):
            if threads > usable_cores():
                continue
            counter = Counter(1, threads=threads)
            times = []
            for _ in range(6):
                start = time.perf_counter()
                counter.add_array(0, array)
                times.append(time.perf_counter() - start)
            found[f"{np.dtype(dtype).name}, {threads} threads"] = min(times) / array.size * 1e9
    return found


def fused_quantization() -> list[dict[str, Any]]:
    """Fake quantization forward and backward: the kernels against torch's operators, values, gradients and time."""
    found = []
    for dtype in DTYPES:
        for before in ("plain", "silu"):
            for learned in (False, True):
                found.append(one_fused(dtype, before, learned))
    return found


def one_fused(dtype: torch.dtype, before: str, learned: bool) -> dict[str, Any]:
    """Largest difference to torch's operators, the share of gradients that differ, and milliseconds of both."""
    generator = torch.Generator().manual_seed(0)
    values = (3 * torch.randn(64, 64, 80, 80, generator=generator)).to(GPU, dtype)
    values = values.contiguous(memory_format=torch.channels_last)
    grad = torch.randn(values.shape, generator=generator).to(GPU, dtype).contiguous(memory_format=torch.channels_last)

    def work(quick: bool) -> list[Tensor]:
        x = values.detach().requires_grad_()
        scale = torch.tensor(0.0173, device=GPU, requires_grad=learned)
        z = nn.functional.silu(x) if before == "silu" else x
        if learned:
            y = fused.learned_quantize(z, scale, fused.ready(z)) if quick else lsq(z, scale)
        else:
            y = fused.fake_quantize(z, 0.0173, fused.ready(z)) if quick else torch.fake_quantize_per_tensor_affine(
                z, 0.0173, 0, -128, 127
            )  # fmt: skip
        torch.autograd.backward(y, grad)
        assert x.grad is not None
        return [y.detach(), x.grad] + ([scale.grad] if scale.grad is not None else [])

    plain, quick = work(False), work(True)
    times = interleaved({"torch": partial(work, False), "fused": partial(work, True)})
    report: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), "before": before, "learned": learned}
    for name, a, b in zip(("y", "gradient", "scale_gradient"), plain, quick, strict=False):
        report[f"{name}_difference"] = float((a.float() - b.float()).abs().max())
        report[f"{name}_share_unequal"] = float((a != b).float().mean())
    return {**report, **{f"{name}_ms": 1e3 * value for name, value in times.items()}}


def attempt(work: Callable[[], Any]) -> Any:
    """Its result, or in words why there is none: one missing part must not cost the others."""
    try:
        return work()
    except Exception as error:  # whatever a peer or a compiler raises
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", nargs="+", default=["equal", "bandwidth", "fused", "models", "onnx", "cores"])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="of part onnx")
    given = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    report: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none", "torch": torch.__version__,
        "cuda": torch.version.cuda, "onnxruntime": onnxruntime.__version__, "python": sys.version.split()[0],
        "date": time.strftime("%Y-%m-%d"), "images": given.images, "batch": given.batch,
        "cpu_flags": sorted(f for f in flags.split() if f.startswith(("avx", "f16c", "amx"))),
        "command": " ".join(["python", *sys.argv]),
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], Any]] = {
        "equal": equal,
        "bandwidth": bandwidth,
        "models": lambda: {
            build.__name__: attempt(partial(calibration, build, given.images, given.batch))
            for build in (resnet50, yolov8m)
        },
        "onnx": lambda: {name: attempt(work) for name, work in cases(given.images, given.batch, given.device)},
        "fused": fused_quantization,
        "cores": cores,
    }
    for name in given.parts:
        start = time.perf_counter()
        report[name] = attempt(parts[name])
        report[f"{name}_s"] = time.perf_counter() - start
        (given.out / "calibration-gpu.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        print(name, json.dumps(report[name])[:3000], flush=True)


if __name__ == "__main__":
    main()
