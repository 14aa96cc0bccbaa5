"""`quantbench build`: an engine from an ONNX file, with the options of trtexec, whatever the version."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build")(build)


def build(
    model: Path = typer.Argument(..., help="ONNX file; external data is found beside it."),
    backend: str = typer.Option("auto", help="auto, tensorrt, tensorrt-rtx or onnxruntime."),
    out: Path = typer.Option(None, help="Engine file. [default: MODEL.engine, onnxruntime: MODEL.ort.onnx]"),
    precision: list[str] = typer.Option(None, help="fp32, tf32, fp16, bf16, int8, best; several with commas."),
    shapes: list[str] = typer.Option(
        None, help="NAME=MIN:OPT:MAX[,NAME=…], e.g. x=1x3x224x224:8x3x224x224:32x3x224x224. Each is one profile."
    ),
    batch: int = typer.Option(8, help="Opt and max of a dynamic batch that --shapes does not name."),
    target: str = typer.Option("", help="GPU families for tensorrt-rtx, with commas: sm80,sm86,sm89,sm120."),
    pool: list[str] = typer.Option(None, help="Memory pool, e.g. workspace=4G or dla_managed_sram=1M."),
    timing_cache: Path = typer.Option(
        None, help="Folder of timing caches. [default: ~/.cache/quantbench/timing; TensorRT only]"
    ),
    tactic_sources: str = typer.Option("", help="As trtexec: +NAME,-NAME."),
    optimization_level: int = typer.Option(None, min=0, max=5, help="Builder optimization level."),
    refittable: bool = typer.Option(False, "--refittable", help="Weights can be changed later."),
    version_compatible: bool = typer.Option(False, "--version-compatible", help="Runs on later versions as well."),
    hardware_compatible: str = typer.Option("", help="ampere_plus or same_compute_capability."),
    sparsity: bool = typer.Option(False, "--sparsity", help="Use 2:4 sparse kernels where weights allow."),
    dla_core: int = typer.Option(None, min=0, help="Build for this DLA core."),
    gpu_fallback: bool = typer.Option(False, "--gpu-fallback", help="Layers that the DLA lacks run on the GPU."),
    layer_precision: list[str] = typer.Option(None, help="PATTERN=PRECISION by layer name; the last match wins."),
    precision_constraints: str = typer.Option("none", help="none, prefer or obey; goes with --layer-precision."),
    strongly_typed: bool = typer.Option(
        None, "--strongly-typed/--weakly-typed", help="Types from the ONNX alone. [default: what the version wants]"
    ),
    ranges: Path = typer.Option(None, help="INT8 ranges: ranges.json of a run, or a calibration cache."),
    calibrator: str = typer.Option(
        "entropy2", help="Calibrator: a name, or file.py:Class, which may bring its own data."
    ),
    calib_dir: Path = typer.Option(None, help="Calibration images or .npy/.npz, for INT8 of a model without Q/DQ."),
    calib_batch: int = typer.Option(8, help="Images a calibration batch."),
    preprocess: str = typer.Option(None, help="Preset for --calib-dir: imagenet, efficientnet-lite, yolo."),
    log: Path = typer.Option(None, help="File for the verbose build log. [default: beside the engine]"),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON summary and nothing else."),
) -> None:
    """Build an engine. INT8 comes from Q/DQ in the model, from --ranges, or from calibration on --calib-dir."""
    import json

    from quantbench.atomic import write_bytes
    from quantbench.engines.base import BuildOptions
    from quantbench.engines.build import build_engine
    from quantbench.engines.build_arguments import (
        calibrator_for,
        default_timing_cache,
        engine_path,
        layer_precisions,
        pools,
        precisions,
        read_ranges,
    )
    from quantbench.engines.shapes import parse_profile
    from quantbench.engines.write_layers import write_layers

    wanted = precisions(precision or [])
    options = BuildOptions(
        precisions=wanted,
        strongly_typed=strongly_typed,
        profiles=tuple(parse_profile(text) for text in shapes or []),
        default_batch=batch,
        targets=tuple(filter(None, (name.strip().lower() for name in target.split(",")))),
        pools=pools(pool or []),
        timing_cache=timing_cache or default_timing_cache(backend),
        tactic_sources=tuple(filter(None, (name.strip() for name in tactic_sources.split(",")))),
        optimization_level=optimization_level,
        refittable=refittable,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible.lower(),
        sparsity=sparsity,
        dla_core=dla_core,
        gpu_fallback=gpu_fallback,
        layer_precisions=layer_precisions(layer_precision or []),
        precision_constraints=precision_constraints,
        ranges=read_ranges(ranges) if ranges else None,
        calibrator=calibrator_for(model, calibrator, calib_dir, calib_batch, preprocess),
        log_file=log or engine_path(model, out, backend).with_suffix(".build.log"),
    )
    result = build_engine(model, options, backend)
    path = engine_path(model, out, result.backend)
    write_bytes(path, result.engine)
    layers = write_layers(result, path.with_suffix(".layers.json"))
    log_file = str(result.log_file) if result.log_file and result.log_file.exists() else None
    summary = {
        "engine": str(path), "bytes": len(result.engine), "backend": result.backend, "version": result.version,
        "targets": list(result.targets), "seconds": round(result.seconds, 3), "log": log_file, "layers": layers,
        "notes": list(result.notes),
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    for note in result.notes:
        typer.echo(note)
    where = f" for {', '.join(result.targets)}" if result.targets else ""
    typer.echo(
        f"{path}: {len(result.engine) / 1e6:.1f} MB by {result.backend} {result.version}{where} "
        f"in {result.seconds:.1f} s"
    )
    if layers:
        typer.echo(f"layers: {layers}")
    if log_file:
        typer.echo(f"log: {log_file} (quantbench inspect reads it)")
