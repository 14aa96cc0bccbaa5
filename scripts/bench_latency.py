"""onnxruntime latency of the encodings of one INT8 model: FP32, S8S8 Q/DQ, U8S8, and U8S8 with integer activations.

    python scripts/bench_latency.py [--threads 1 2 4] [--seconds 60] [--out latency.json]

ResNet-18 (random weights), batch 1, 224x224, interleaved, two placements. Wants an idle CPU.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.core.quantize import for_onnxruntime, quantize_with
from quantbench.demo import resnet18
from quantbench.evaluate.latency import interleaved
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.reencode import to_u8_activations


def call(model: onnx.ModelProto, image: NDArray[np.float32], threads: int) -> Callable[[], object]:
    """One inference of `model` as a function."""
    session = create_session(model, threads=threads)
    return lambda: session.run(None, {resnet18.INPUT: image})


def variants(model: onnx.ModelProto, images: NDArray[np.float32]) -> dict[str, onnx.ModelProto]:
    """FP32 and the INT8 encodings by name."""
    found = {"FP32": model}
    for name, options in (
        ("TensorRT placement", PlacementOptions()),
        ("onnxruntime placement", PlacementOptions(add_both=True)),
    ):
        plan = place(view_of(model), options)
        maxima = maxima_of(collect(model, [{resnet18.INPUT: images}], plan.tensors))
        ranges = Ranges({tensor: TensorRange(amax) for tensor, amax in maxima.items()})
        signed = quantize_with(model, ranges, options).model
        found[f"{name}, S8S8 Q/DQ"] = signed
        found[f"{name}, U8S8 Q/DQ"] = to_u8_activations(signed)
        found[f"{name}, U8S8, integer activations"] = for_onnxruntime(signed)
    return found


def cpu() -> str:
    """Model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def main() -> None:
    """Print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description="onnxruntime latency of the encodings of one INT8 model")
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--seconds", type=float, default=60.0, help="for all models together, each number of threads")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    images = np.random.default_rng(0).normal(size=(8, 3, 224, 224)).astype(np.float32)
    models = variants(resnet18.build(), images)
    rows: list[dict[str, Any]] = []
    load = os.getloadavg()
    for threads in arguments.threads:
        found = interleaved(
            {name: call(variant, images[:1], threads) for name, variant in models.items()},
            batch=1, threads=threads, seconds=arguments.seconds,
        )  # fmt: skip
        print(f"{threads} threads\n| model | median ms | p90 | p99 | times FP32 |\n|---|---|---|---|---|")
        base = found["FP32"].median_ms
        for name, t in found.items():
            print(f"| {name} | {t.median_ms:.2f} | {t.p90_ms:.2f} | {t.p99_ms:.2f} | {base / t.median_ms:.2f} |")
            rows.append({"model": name, **asdict(t), "times_fp32": base / t.median_ms})
    if arguments.out is not None:
        facts = {"cpu": cpu(), "cores": os.cpu_count(), "load_before": load[0], "onnxruntime": onnxruntime.__version__}
        arguments.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
