"""`quantbench bench`: time an engine on the GPU, or an ONNX file on the CPU, with trtexec's statistics."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from quantbench.cli.options import Json, Preprocess, ThreadCount
from quantbench.terminal import echo

if TYPE_CHECKING:
    from quantbench.engines.bench_many import Feed, ManyRequest
    from quantbench.engines.bench_model import Benched


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    models: list[Path] = typer.Argument(..., help="Engines (GPU) or ONNX files (onnxruntime on the CPU)."),
    shapes: list[str] = typer.Option(
        None, help="Input shapes, e.g. x=8x3x224x224; given again, timed in turn. (default: the model's, batch 1 / opt)"
    ),
    batch: str = typer.Option("", help="Batch sizes of several models, e.g. 1,8. (default: 1)"),
    data: Path = typer.Option(
        None, help="Real images for several models: a folder or tar shards, read as ptq reads them."
    ),
    seconds: float = typer.Option(3.0, "--seconds", "--duration", min=0, help="Measure at least this long."),
    calls: int = typer.Option(10, "--calls", "--iterations", min=1, help="Measure at least this many calls."),
    warm_up: float = typer.Option(0.2, min=0, help="Seconds before the measurement."),
    backend: str = typer.Option(
        "auto", help="auto: by the file. onnxruntime wants an ONNX file, tensorrt and tensorrt-rtx an engine."
    ),
    threads: ThreadCount = 0,
    streams: int = typer.Option(1, min=1, help="GPU streams, one context each, fed by one thread."),
    contexts: int = typer.Option(1, min=1, help="Callers at once, a thread and (on a GPU) a context and stream each."),
    spin_wait: bool = typer.Option(False, "--spin-wait", help="Ask the GPU again and again instead of sleeping."),
    cuda_graph: bool = typer.Option(False, "--cuda-graph", help="Launch each call as one CUDA graph."),
    no_transfers: bool = typer.Option(
        False, "--no-transfers", "--no-data-transfers", help="Leave copies to and from the GPU out."
    ),
    profile_index: int = typer.Option(None, min=0, help="Optimization profile. (default: the first that fits)"),
    input: list[str] = typer.Option(
        None,
        metavar="NAME=PATH",
        help="Real input: .npy, raw values (as trtexec), pictures, or what ptq takes: folders, tar shards.",
    ),
    preprocess: Preprocess = None,
    times: Path = typer.Option(None, help="Write the times of every call (JSON of trtexec --exportTimes) here."),
    plugin: list[Path] = typer.Option(None, metavar="LIB.so", help="Library of plugins that the engine needs."),
    runtime: str = typer.Option("full", help="full, lean or dispatch runtime of TensorRT."),
    profile: Path = typer.Option(None, help="Write per-layer times (JSON of trtexec --exportProfile) here; GPU."),
    host_code: bool = typer.Option(
        False, "--host-code", help="Run the code in an engine that was built with --version-compatible."
    ),
    as_json: Json = False,
) -> None:
    """Time an engine or an ONNX file, on noise or on --input: throughput, latency and its parts.

    Several models take turns, call by call, and two are ranked only where the noise allows.

    Example: quantbench bench model.onnx runs/model-mse/model.ort.onnx --batch 1,8 --data imgs
    """
    import json

    from quantbench.engines.bench_inputs import named_files
    from quantbench.engines.bench_many import ManyRequest
    from quantbench.engines.bench_model import BenchRequest, bench_model, check_backend
    from quantbench.engines.shapes import parse_profile
    from quantbench.errors import QuantbenchError

    for model in models:
        check_backend(model, backend)
    given = [{name: triple[1] for name, triple in parse_profile(text).shapes.items()} for text in shapes or ()] or [{}]
    if len(models) > 1 or batch or data is not None:
        single = (
            streams > 1,
            contexts > 1,
            cuda_graph,
            no_transfers,
            profile,
            host_code,
            spin_wait,
            input,
            times,
            plugin,
        )
        if any(single) or profile_index is not None or runtime != "full":
            raise QuantbenchError(
                "--streams, --contexts, --cuda-graph, --no-transfers, --profile, --profile-index, --host-code, "
                "--spin-wait, --input, --times, --plugin and --runtime are for one model at a time"
            )
        if len(given) > 1:
            raise QuantbenchError("--shapes is given once for several models; --batch 1,8 names several sizes")
        many = ManyRequest(
            _sizes(batch), seconds * len(models), calls, threads, given[0], _real(models, data, preprocess)
        )
        _compare(models, many, as_json)
        return
    (model,) = models
    if times is not None and len(given) > 1:
        raise QuantbenchError("--times holds the calls of one --shapes; run bench once for each")
    summaries = []
    for shape in given:
        request = BenchRequest(
            shape, seconds, calls, warm_up, threads, streams, cuda_graph, not no_transfers, profile, host_code,
            contexts, spin_wait, profile_index, named_files(tuple(input or ())), preprocess, times,
            tuple(plugin or ()), runtime,
        )  # fmt: skip
        summaries.append(bench_model(model, request))
    if as_json:
        plain = [summary.to_json() for summary in summaries]
        echo(json.dumps(plain if len(plain) > 1 else plain[0], indent=2))
        return
    for summary in summaries:
        _print(model, summary, several=len(summaries) > 1)


def _print(model: Path, found: "Benched", *, several: bool) -> None:
    shapes = ", ".join(f"{name} {'x'.join(map(str, dims))}" for name, dims in found.shapes.items())
    times = found.timings
    echo(
        f"{model}{f' ({shapes})' if several else ''}: {times.calls} calls in {times.wall_seconds:.1f} s, "
        f"{times.calls_per_second:.2f} calls/s, {times.images_per_second:.2f} images/s"
    )
    columns = ("min", "max", "mean", "median", "p90", "p95", "p99")
    echo(" " * 8 + "".join(f"{name:>10}" for name in columns) + "  ms")
    for part, stats in times.parts().items():
        echo(f"{part:8}" + "".join(f"{getattr(stats, name):10.3f}" for name in columns))
    for note in times.notes():
        echo(f"note: {note}")


def _sizes(batch: str) -> tuple[int, ...]:
    from quantbench.errors import QuantbenchError

    if not batch:
        return (1,)
    parts = [part.strip() for part in batch.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise QuantbenchError(f"--batch {batch!r} is no list of batch sizes, such as 1,8")
    return tuple(int(part) for part in parts)


def _real(models: list[Path], data: Path | None, preprocess: str | None) -> "Feed | None":
    """Some images as the first ONNX model takes them."""
    from quantbench.data.sources import feeds
    from quantbench.decide.eval_models import DataRequest, open_data
    from quantbench.errors import QuantbenchError
    from quantbench.graph.load import load_model

    if data is None:
        return None
    first = next((model for model in models if model.suffix == ".onnx"), None)
    if first is None:
        raise QuantbenchError("--data needs an ONNX file among the models, which says what an image is")
    source, name = open_data(
        load_model(first), str(first), DataRequest(str(data), preprocess=preprocess, max_images=32)
    )
    return dict(next(iter(feeds(source, name, min(len(source), 32)))))


def _compare(models: list[Path], request: "ManyRequest", as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from quantbench.decide.eval_models import short_names
    from quantbench.engines.bench_many import bench_many

    found = bench_many(models, short_names(tuple(models)), request)
    if as_json:
        rankings = [{**asdict(ranking), "parted": ranking.parted} for ranking in found.rankings]
        echo(json.dumps({"models": [asdict(one) for one in found.contestants], "pairs": rankings}, indent=2))
        return
    wide = max(len(one.model) for one in found.contestants)
    echo(f"{'model':{wide}}  batch   median ms (95 %)            p90  rounds  warm-up  backend")
    for one in found.contestants:
        echo(
            f"{one.model:{wide}}  {one.batch:5}  {one.median:8.3f} ({one.low:.3f} to {one.high:.3f})  {one.p90:9.3f}  "
            f"{one.rounds:6}  {one.warm_up:7}  {one.backend}"
        )
    for pair in found.rankings:
        if pair.parted:
            echo(
                f"batch {pair.batch}: {pair.faster} is {pair.ratio:.2f} x ({pair.low:.2f} to {pair.high:.2f}) as fast "
                f"as {pair.slower}"
            )
        else:
            echo(
                f"batch {pair.batch}: {pair.faster} and {pair.slower} cannot be parted by their noise "
                f"({pair.ratio:.2f} x, {pair.low:.2f} to {pair.high:.2f})"
            )
