"""`quantbench bench`: time an engine on the GPU, or an ONNX file on the CPU, with trtexec's statistics."""

from pathlib import Path

import typer

from quantbench import limits


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    model: Path = typer.Argument(..., help="Engine (GPU) or ONNX file (onnxruntime on the CPU)."),
    shapes: str = typer.Option("", help="Input shapes, e.g. x=8x3x224x224. (default: the model's, batch 1 / opt)"),
    seconds: float = typer.Option(3.0, "--seconds", "--duration", min=0, help="Measure at least this long."),
    calls: int = typer.Option(10, "--calls", "--iterations", min=1, help="Measure at least this many calls."),
    warm_up: float = typer.Option(0.2, min=0, help="Seconds before the measurement."),
    backend: str = typer.Option(
        "auto", help="auto: by the file. onnxruntime wants an ONNX file, tensorrt and tensorrt-rtx an engine."
    ),
    threads: int = typer.Option(0, min=0, max=limits.THREADS, help="onnxruntime threads; 0 lets it choose."),
    streams: int = typer.Option(1, min=1, help="GPU streams, one context each, fed by one thread."),
    contexts: int = typer.Option(1, min=1, help="Callers at once, a thread and (on a GPU) a context and stream each."),
    spin_wait: bool = typer.Option(False, "--spin-wait", help="Ask the GPU again and again instead of sleeping."),
    cuda_graph: bool = typer.Option(False, "--cuda-graph", help="Launch each call as one CUDA graph."),
    no_transfers: bool = typer.Option(
        False, "--no-transfers", "--no-data-transfers", help="Leave copies to and from the GPU out."
    ),
    profile_index: int = typer.Option(None, min=0, help="Optimization profile. (default: the first that fits)"),
    input: list[str] = typer.Option(
        None, metavar="NAME=FILE", help="Real input: .npy, raw values (as trtexec), a picture or a folder of them."
    ),
    preprocess: str = typer.Option(None, help="Preset for pictures: imagenet, efficientnet-lite, yolo."),
    times: Path = typer.Option(None, help="Write the times of every call (JSON of trtexec --exportTimes) here."),
    plugin: list[Path] = typer.Option(None, metavar="LIB.so", help="Library of plugins that the engine needs."),
    runtime: str = typer.Option("full", help="full, lean or dispatch runtime of TensorRT."),
    profile: Path = typer.Option(None, help="Write per-layer times (JSON of trtexec --exportProfile) here; GPU."),
    host_code: bool = typer.Option(
        False, "--host-code", help="Run the code in an engine that was built with --version-compatible."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON and nothing else."),
) -> None:
    """Time an engine or an ONNX file, on noise or on --input: throughput, latency and its parts."""
    import json

    from quantbench.engines.bench_inputs import named_files
    from quantbench.engines.bench_model import BenchRequest, bench_model, check_backend
    from quantbench.engines.shapes import parse_profile

    check_backend(model, backend)
    given = {name: triple[1] for name, triple in parse_profile(shapes).shapes.items()} if shapes else {}
    request = BenchRequest(
        given, seconds, calls, warm_up, threads, streams, cuda_graph, not no_transfers, profile, host_code,
        contexts, spin_wait, profile_index, named_files(tuple(input or ())), preprocess, times, tuple(plugin or ()),
        runtime,
    )  # fmt: skip
    summary = bench_model(model, request)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    typer.echo(
        f"{model}: {summary['calls']} calls in {summary['wall_seconds']:.1f} s, "
        f"{summary['throughput_qps']:.2f} calls/s, {summary['images_per_second']:.2f} images/s"
    )
    columns = ("min", "max", "mean", "median", "p90", "p95", "p99")
    typer.echo(" " * 8 + "".join(f"{name:>10}" for name in columns) + "  ms")
    for part in ("latency", "enqueue", "h2d", "compute", "d2h"):
        if part in summary:
            typer.echo(f"{part:8}" + "".join(f"{summary[part][name]:10.3f}" for name in columns))
    for note in summary["notes"]:
        typer.echo(f"note: {note}")
