"""Latency and size in onnxruntime."""

from quantbench.records.evaluation import Latency
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Bars, Block, Section, Table, Text
from quantbench.report.words import size


def section(run: PtqRun) -> Section:
    """Median with its interval, p90 and p99 of both models on this machine's CPU, and file sizes."""
    blocks: list[Block] = []
    times = run.evaluation.latency
    if times is not None:
        machine = run.measured_by("evaluate").machine
        rows = []
        for t, name in ((times.plain, "FP32"), (times.int8, "INT8 (U8 activations, S8 weights)")):
            rows.append((name, f"{t.median_ms:.2f}", _interval(t), f"{t.p90_ms:.2f}", f"{t.p99_ms:.2f}", str(t.runs)))
        threads = times.plain.threads or machine.cores
        blocks.append(
            Text(
                f"onnxruntime on {machine.processor}, {threads} threads, batch {times.plain.batch}; the two "
                f"models took turns, call by call. A CPU's latency says nothing of a GPU's."
            )
        )
        blocks.append(Table(("Model", "median ms", "95 % interval", "p90 ms", "p99 ms", "calls"), tuple(rows)))
        blocks.append(Bars(tuple((name, float(median), f"{median} ms") for name, median, *_ in rows), "Median latency"))
    sizes = run.evaluation.sizes
    blocks.append(
        Table(
            ("File", "Size"),
            (
                ("FP32 model", size(sizes.plain)),
                ("model.qdq.onnx (float weights behind Q/DQ, for TensorRT)", size(sizes.qdq)),
                ("model.ort.onnx (the same numbers, for onnxruntime)", size(sizes.onnxruntime)),
            ),
        )
    )
    return Section("Latency and size", tuple(blocks))


def _interval(times: Latency) -> str:
    return f"{times.low_ms:.2f} to {times.high_ms:.2f}" if times.low_ms and times.high_ms else "-"
