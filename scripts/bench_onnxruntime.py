"""Our INT8 models for onnxruntime on a CPU beside onnxruntime's own: latency, SQNR, and what is left unfused.

    python scripts/bench_onnxruntime.py OUT MODEL.onnx … [--threads 1] [--seconds 6]

For each model: FP32, ours with TensorRT's placement, ours with --for-onnxruntime, and onnxruntime's quantize_static (U8
activations, S8 weights per channel, all operators). All get the same 32 seeded inputs to calibrate on (min-max) and
eight others to measure on; latencies at batch 1, interleaved. Writes OUT/onnxruntime.json.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.core.quantize import for_onnxruntime
from quantbench.evaluate.latency import interleaved
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session, session_options
from quantbench.qdq.carry_out import Correction, carry_out
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from scripts.bench_calibration import Reader, versions

Feed = dict[str, NDArray[Any]]


def inputs_of(model: onnx.ModelProto, count: int, seed: int) -> list[Feed]:
    """Seeded smooth fields with noise, one image a feed, in the model's own shape (224 where it is open)."""
    stored = {tensor.name for tensor in model.graph.initializer}
    value = next(v for v in model.graph.input if v.name not in stored)
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    shape = [1, *(s if s > 0 else 224 for s in shape[1:])]
    rng = np.random.default_rng(seed)
    channels = 1 if len(shape) == 4 and shape[1] in (1, 3, 4) else 3
    found = []
    for _ in range(count):
        small = [s if i in (0, channels) else -(-s // 16) for i, s in enumerate(shape)]
        field = rng.normal(size=small)
        for axis, size in enumerate(shape):
            if size != small[axis]:
                field = field.repeat(16, axis).take(range(size), axis)
        found.append({value.name: (field + rng.normal(scale=0.2, size=shape)).astype(np.float32)})
    return found


def ours(model: onnx.ModelProto, feeds: list[Feed], options: PlacementOptions) -> onnx.ModelProto:
    """Min-max, biases corrected, for onnxruntime."""
    plan = place(view_of(model), options)
    maxima = maxima_of(collect(model, feeds, plan.tensors))
    ranges = Ranges({name: TensorRange(value) for name, value in maxima.items()})
    done = carry_out(model, plan, ranges, Correction(lambda: feeds, len(feeds)), residual_db=options.residual_db)
    return for_onnxruntime(done.model, affine=options.add_both)


def theirs(path: Path, feeds: list[Feed]) -> onnx.ModelProto:
    """onnxruntime's own quantization, as its documentation advises for x86 CPUs: QDQ, U8 activations, S8 weights."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "q.onnx"
        quantize_static(
            str(path), str(target), Reader(feeds), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
        )  # fmt: skip
        return onnx.load(target)


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """Operators of the graph as onnxruntime's optimizer leaves it, without what depends on the processor's layout."""
    import onnxruntime as ort

    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "o.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node))


def sqnr(reference: list[list[NDArray[Any]]], other: list[list[NDArray[Any]]]) -> float:
    """Of the worst output, in dB, over all feeds."""
    worst = np.inf
    for index in range(len(reference[0])):
        x, y = (np.concatenate([r[index].ravel() for r in run]).astype(np.float64) for run in (reference, other))
        worst = min(worst, 10 * np.log10((x @ x) / max(((x - y) ** 2).sum(), 1e-300)))
    return float(worst)


def compared(path: Path, threads: int, seconds: float) -> dict[str, Any]:
    """Everything of one model."""
    model = load_model(path)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        onnx.save(model, plain)
        feeds, held = inputs_of(model, 32, 0), inputs_of(model, 8, 1)
        models = {
            "FP32": model,
            "ours": ours(model, feeds, PlacementOptions()),
            "ours, --for-onnxruntime": ours(model, feeds, PlacementOptions(add_both=True)),
            "onnxruntime's": theirs(plain, feeds),
        }
    sessions = {name: create_session(m, threads=threads) for name, m in models.items()}
    calls = {name: (lambda s=session: s.run(None, held[0])) for name, session in sessions.items()}
    times = interleaved(calls, batch=1, threads=threads, seconds=seconds, most=2000)
    outputs = {name: [session.run(None, feed) for feed in held] for name, session in sessions.items()}
    return {
        name: {
            "latency": asdict(times[name]), "sqnr_db": sqnr(outputs["FP32"], outputs[name]) if name != "FP32" else None,
            "operators": operators(models[name]),
        }
        for name in models
    }  # fmt: skip


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args()
    report: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "versions": versions(), "threads": given.threads,
                              "command": " ".join(["python", *sys.argv]), "models": {}}  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    for path in given.models:
        found = report["models"][path.stem] = compared(path, given.threads, given.seconds)
        (given.out / "onnxruntime.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        for name, row in found.items():
            print(path.stem, name, round(row["latency"]["median_ms"], 2), row["sqnr_db"], row["operators"], flush=True)


if __name__ == "__main__":
    main()
