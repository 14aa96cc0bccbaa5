"""INT8 for onnxruntime on a CPU, ours beside its own: processor time, SQNR, and which kernels run, on trained networks.

    python scripts/bench_onnxruntime.py OUT [--only NAME …] [--assets DIR] [--core 0] [--seconds 8]
    python scripts/bench_onnxruntime.py OUT --table

The networks and their calibration and held-out data are those of `scripts/compared_networks.py`. For each: FP32; ours
by `--for-onnxruntime`, with min-max ranges and by default (calibrator auto); onnxruntime's own as its documentation has
it for CPUs (quant_pre_process, then quantize_static: Q/DQ, U8 activations, S8 weights per channel, min-max, all
operators). All see the same 32 samples and are measured on 512 others at most; SQNR is the mean over two draws of the
32, between which one method on one network differs by up to some dB. Boxes and class scores that share an output are
told apart, as `quantbench evaluate` does: boxes in pixels are nearly all of its energy, and scores that are all zero
would not show; the JSON has both (`parts`). Times: one thread on one core, batch 1,
call by call, in each round in another order, for a call finds the caches as the one before leaves them; the processor
time of the calling thread, least and median, and the median over the rounds of ours by theirs. OUT gets one JSON a
network.
"""

import json
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import quantbench
from quantbench.atomic import write_json
from quantbench.evaluate.pairs import Noise
from quantbench.evaluate.task import facts_of, find_task
from quantbench.graph.load import load_model
from quantbench.ort import create_session, session_options
from quantbench.qdq.options import PlacementOptions
from quantbench.records.evaluation import Measured
from scripts.compare_models import _Reader, batches_of
from scripts.compared_networks import Case, asked_for, made, parser_of

FLOAT, OURS, DEFAULT, THEIRS = "FP32", "ours, min-max", "ours", "onnxruntime's"
_HELD = 512
_SEEN, _DRAWS = 32, 2
_LEAST_ROUNDS = 15
# Of each sample.
Outputs = list[list[NDArray[Any]]]


def ours(case: Case, method: str) -> onnx.ModelProto:
    """By the public function."""
    batches = batches_of(case, load_model(case.path))
    placed = PlacementOptions(for_onnxruntime=True)
    return quantbench.quantize(case.path, batches, calibrator=method, placement=placed, threads=1).for_onnxruntime


def theirs(case: Case, folder: Path) -> onnx.ModelProto:
    """By onnxruntime's own quantizer, after its own preparation."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain, prepared, target = (folder / f"{name}.onnx" for name in ("plain", "prepared", "theirs"))
    onnx.save(load_model(case.path), plain)
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(target), _Reader(onnx.load(plain).graph.input[0].name, case.calibration),
        quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
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


def processor_times(sessions: Mapping[str, Any], feed: Mapping[str, Any], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of processor time of each call, the sessions in a new order each round."""
    order = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        for _ in range(3):
            session.run(None, feed)
    end = time.monotonic() + seconds
    while time.monotonic() < end or min(map(len, found.values())) < _LEAST_ROUNDS:
        for name in order.permutation(list(sessions)):
            start = time.thread_time()
            sessions[name].run(None, feed)
            found[name].append((time.thread_time() - start) * 1e3)
    return found


def sqnr(reference: Outputs, other: Outputs) -> float:
    """Of the worst output, each taken whole, in dB, over all samples."""
    worst = np.inf
    for index in range(len(reference[0])):
        x, y = (np.concatenate([r[index].ravel() for r in run]).astype(np.float64) for run in (reference, other))
        if x.size > 1 and x.any():
            worst = min(worst, 10 * np.log10((x @ x) / max(((x - y) ** 2).sum(), 1e-300)))
    return round(float(worst), 2)


def by_parts(model: onnx.ModelProto, reference: Outputs, other: Outputs) -> dict[str, float]:
    """In dB, of the boxes and of the class scores of a detector that gives both in one output; else nothing."""
    task = find_task(reference[0], facts_of(model), "auto")
    if task.kind != "boxes" or task.format != "yolo":
        return {}
    noise = Noise(task, [value.name for value in model.graph.output])
    for a, b in zip(reference, other, strict=True):
        noise.update(a, b, 1)
    return {e.name: round(e.sqnr.value, 2) for e in noise.result() if isinstance(e.sqnr, Measured)}


def quantized(case: Case) -> dict[str, onnx.ModelProto]:
    """The models of one draw, and the float one."""
    with tempfile.TemporaryDirectory() as folder:
        return {FLOAT: load_model(case.path), THEIRS: theirs(case, Path(folder)), OURS: ours(case, "minmax"),
                DEFAULT: ours(case, "auto")}  # fmt: skip


def measured(case: Case, seconds: float) -> dict[str, Any]:
    """Everything of one network."""
    held = case.held_out[:_HELD]
    order = np.random.default_rng(0).permutation(len(case.calibration))
    found: dict[str, list[float]] = {THEIRS: [], OURS: [], DEFAULT: []}
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in found}
    for draw in range(_DRAWS):
        few = case.calibration[order[draw * _SEEN : (draw + 1) * _SEEN]]
        models = quantized(replace(case, calibration=few))
        sessions = {name: create_session(model, threads=1) for name, model in models.items()}
        key = models[FLOAT].graph.input[0].name
        outputs = {name: [s.run(None, {key: x[None]}) for x in held] for name, s in sessions.items()}
        for name, each in found.items():
            apart = by_parts(models[FLOAT], outputs[FLOAT], outputs[name])
            parts[name].append({**apart, "whole": sqnr(outputs[FLOAT], outputs[name])})
            each.append(min(apart.values(), default=parts[name][-1]["whole"]))
        del outputs
    times = processor_times(sessions, {key: held[:1]}, seconds)
    rows: dict[str, Any] = {}
    for name, model in models.items():
        against = np.array(times[name]) / np.array(times[THEIRS])
        rows[name] = {
            "least_ms": round(min(times[name]), 4), "median_ms": round(float(np.median(times[name])), 4),
            "rounds": len(times[name]), "by_theirs": round(float(np.median(against)), 4),
            "sqnr_db": round(float(np.mean(found[name])), 2) if name in found else None,
            "sqnr_draws": found.get(name), "parts": parts.get(name), "operators": operators(model),
        }  # fmt: skip
    return rows


def table(out: Path) -> Iterator[str]:
    """The Markdown rows of what is measured."""
    yield (
        "| network | FP32, ms | onnxruntime's, ms | ours, ms | ours / its | its SQNR | ours, min-max | ours | "
        "float in ours |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for file in sorted(out.glob("*.json")):
        rows = json.loads(file.read_text(encoding="utf-8"))["models"]
        own, best, plain = rows[THEIRS], rows[DEFAULT], rows[OURS]
        left = {op: n for op, n in best["operators"].items() if op in _FLOAT_LAYERS}
        yield (
            f"| {file.stem} | {rows[FLOAT]['least_ms']:.3g} | {own['least_ms']:.3g} | {best['least_ms']:.3g} | "
            f"{best['least_ms'] / own['least_ms']:.2f} ({best['by_theirs']:.2f}) | {own['sqnr_db']:.1f} | "
            f"{plain['sqnr_db']:.1f} | **{best['sqnr_db']:.1f}** | "
            f"{', '.join(f'{n} {op}' for op, n in sorted(left.items())) or '-'} |"
        )


_FLOAT_LAYERS = frozenset({
    "Conv", "FusedConv", "ConvTranspose", "Gemm", "MatMul", "FusedMatMul", "PRelu", "Gelu", "LayerNormalization",
    "Softmax", "Add", "Mul", "HardSigmoid",
})  # fmt: skip


def main() -> None:
    """Command line: see the module's first lines."""
    parser = parser_of(__doc__)
    parser.set_defaults(images=_DRAWS * _SEEN)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    if given.table:
        print("\n".join(table(given.out)))
        return
    os.sched_setaffinity(0, {given.core})
    for name, make, file in asked_for(given):
        if file.exists():
            continue
        case = made(name, make)
        if case is None:
            continue
        rows = measured(case, given.seconds)
        write_json(file, {"network": name, "date": time.strftime("%Y-%m-%d"), "machine": platform.processor(),
                          "onnxruntime": __import__("onnxruntime").__version__, "samples": _SEEN,
                          "models": rows})  # fmt: skip
        print(name, {k: (r["least_ms"], r["by_theirs"], r["sqnr_db"]) for k, r in rows.items()}, flush=True)


if __name__ == "__main__":
    main()
