"""Latency and size in onnxruntime."""

from collections.abc import Mapping
from typing import Any

from quantbench.report.blocks import Bars, Block, Section, Table, Text
from quantbench.report.words import size


def section(run: Mapping[str, Any]) -> Section:
    """Median, p90 and p99 of both models on this machine's CPU, and file sizes."""
    result = run["evaluation_result"]
    blocks: list[Block] = []
    if "latency" in result:
        rows = []
        for key, name in (("float", "FP32"), ("int8", "INT8 (U8 activations, S8 weights)")):
            t = result["latency"][key]
            rows.append((name, f"{t['median_ms']:.2f}", f"{t['p90_ms']:.2f}", f"{t['p99_ms']:.2f}", str(t["runs"])))
        first = result["latency"]["float"]
        threads = first["threads"] or run["machine"]["cores"]
        blocks.append(
            Text(
                f"onnxruntime on {run['machine']['processor']}, {threads} threads, batch {first['batch']}; the two "
                f"models took turns, call by call. A CPU's latency says nothing of a GPU's."
            )
        )
        blocks.append(Table(("Model", "median ms", "p90 ms", "p99 ms", "calls"), tuple(rows)))
        blocks.append(Bars(tuple((name, float(median), f"{median} ms") for name, median, *_ in rows), "Median latency"))
    sizes = result["bytes"]
    blocks.append(
        Table(
            ("File", "Size"),
            (
                ("FP32 model", size(sizes["float"])),
                ("model.qdq.onnx (float weights behind Q/DQ, for TensorRT)", size(sizes["qdq"])),
                ("model.ort.onnx (the same numbers, for onnxruntime)", size(sizes["onnxruntime"])),
            ),
        )
    )
    return Section("Latency and size", tuple(blocks))
