"""What the stages after calibration cost on this CPU, in forward passes: bias correction, layer errors, evaluation.

    python scripts/bench_stages.py OUT [--models resnet18 lite0] [--images 64] [--threads 1] [--rounds 3]

A stage needs so many passes of the float and of the INT8 model (bias correction both of them twice, the others once).
`to_passes` is its time over that of these passes alone, sessions made beforehand; the stage makes its own. Batches are
made beforehand too (decoding is in no figure). Medians over rounds that are interleaved. Writes OUT/stages-cpu.json.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quantbench.calibration.collect import collect
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.ort_outputs import runner, static_batch
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.quantize import for_onnxruntime
from quantbench.evaluate.layers import layer_errors
from quantbench.evaluate.outputs import compare_outputs
from quantbench.evaluate.task import facts_of
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from quantbench.qdq.correct_bias import correct_bias
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.options import BIAS_SWEEPS
from quantbench.qdq.place import place
from scripts.bench_calibration import BATCH, Feeds, build, feeds_of, tensors_of, versions

LAYER_IMAGES = 32
Work = Callable[[], Any]


def works(model: onnx.ModelProto, feeds: Feeds, threads: int) -> tuple[dict[str, Work], dict[str, float]]:
    """What to time, by name; and for each stage how often it needs a pass over all images of both models."""
    plan = place(view_of(model))
    ranges = find_ranges(collect(model, feeds[:2], tensors_of(model)), "minmax", threshold_method("minmax"))
    quantized = insert_qdq(model, plan, ranges)
    nodes = [site.node for site in plan.weights]
    plain = create_session(model, threads=threads)
    int8 = create_session(for_onnxruntime(quantized), threads=threads)
    few = feeds[: max(1, LAYER_IMAGES // BATCH)]
    fixed = static_batch(model)

    def evaluation() -> None:
        sessions = [create_session(m, threads=threads) for m in (model, for_onnxruntime(quantized))]
        labelled = ((feed, [None] * len(next(iter(feed.values())))) for feed in feeds)
        compare_outputs(runner(sessions[0], fixed), runner(sessions[1], fixed), labelled, facts=facts_of(model))

    done: dict[str, Work] = {
        "float": lambda: [plain.run(None, feed) for feed in feeds],
        "int8": lambda: [int8.run(None, feed) for feed in feeds],
        "bias correction": lambda: correct_bias(quantized, lambda: feeds, threads=threads),
        "layer errors": lambda: layer_errors(model, quantized, nodes, few, threads=threads),
        "evaluation": evaluation,
    }
    return done, {"bias correction": float(BIAS_SWEEPS), "layer errors": len(few) / len(feeds), "evaluation": 1.0}


def measured(done: dict[str, Work], needs: dict[str, float], rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds (wall, CPU) of each, and of a stage its share of the passes it needs."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in done}
    for work in (done["float"], done["int8"]):
        work()
    for _ in range(rounds):
        for name, work in done.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    found = {
        name: {"seconds": median(w for w, _ in own), "cpu_seconds": median(c for _, c in own)}
        for name, own in times.items()
    }
    for name, share in needs.items():
        for key in ("seconds", "cpu_seconds"):
            passes = share * (found["float"][key] + found["int8"][key])
            found[name][f"{key}_to_passes"] = round(found[name][key] / passes, 3)
    return found


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=["resnet18", "lite0"])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "versions": versions(), "machine": platform.processor(),
        "images": given.images, "threads": given.threads, "load_before": os.getloadavg(),
        "command": " ".join(["python", *sys.argv]), "models": {},
    }  # fmt: skip
    for name in given.models:
        model = onnx.load(build(name, given.out))
        done, needs = works(model, feeds_of(model, given.images), given.threads)
        report["models"][name] = measured(done, needs, given.rounds)
        print(name, json.dumps(report["models"][name], indent=1), flush=True)
    (given.out / "stages-cpu.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
