"""`quantbench build`: an engine from an ONNX file, with the options of trtexec, whatever the version."""

from pathlib import Path

import typer

from quantbench.cli.build_options import EngineOptions
from quantbench.cli.options import CalibData, InputData, Preprocess, grouped
from quantbench.terminal import echo

# Opt and max of a dynamic batch that nothing names.
_BATCH = 8


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build")(build)


@grouped
def build(
    model: Path = typer.Argument(
        None, help="ONNX file; external data is found beside it. Or net.py:function, which fills a TensorRT network."
    ),
    out: Path = typer.Option(None, help="Engine file. (default: MODEL.engine, onnxruntime: MODEL.ort.onnx)"),
    ranges: Path = typer.Option(None, help="INT8 ranges: ranges.json of a run, or a calibration cache."),
    calibrator: str = typer.Option(
        "entropy2", help="Calibrator: a name, or file.py:Class, which may bring its own data."
    ),
    calib_dir: CalibData = None,
    inputs: InputData = None,
    calib_batch: int = typer.Option(8, min=1, help="Images a calibration batch."),
    preprocess: Preprocess = None,
    device: str = typer.Option("cpu", help="cpu, cuda or cuda:1: where quantbench calibrates, if TensorRT does not."),
    recipe: str = typer.Option(None, help="Take the `compile` section of this recipe: a name or a YAML file."),
    trust: bool = typer.Option(False, "--trust", help="Load plugins that the recipe names."),
    from_trtexec: str = typer.Option(None, metavar="LINE", help="Build what this trtexec command line builds."),
    as_trtexec: int = typer.Option(
        None, metavar="N", help="Build nothing: print the command line of trtexec 8, 10 or 11 for this build."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON summary and nothing else."),
    *,
    build: EngineOptions,
) -> None:
    """Build an engine. INT8 comes from Q/DQ in the model, from --ranges, or from calibration on --calib-data."""
    import json
    from dataclasses import replace

    from quantbench.atomic import write_bytes
    from quantbench.cli.requests import build_options, data_choice
    from quantbench.engines.build import build_engine
    from quantbench.engines.build_arguments import engine_path, read_ranges
    from quantbench.engines.write_layers import write_layers
    from quantbench.errors import QuantbenchError
    from quantbench.ptq.calibrate_on import place_of
    from quantbench.ptq.given_calibrator import given_calibrator
    from quantbench.recipe import Recipe, load_recipe
    from quantbench.recipe_files import recipe_path

    changes = build.changes()
    if from_trtexec is not None:
        from quantbench.cli.trtexec import build_of

        if model is not None or out is not None or changes:
            raise QuantbenchError("--from-trtexec stands alone: the line names model, engine and options")
        build_of(from_trtexec, as_trtexec)
        return
    if model is None:
        raise QuantbenchError("no model given: quantbench build MODEL.onnx, or --from-trtexec LINE")
    changed = (
        load_recipe(recipe_path(recipe), changes, trust=trust)
        if recipe
        else Recipe().merged({"compile.batch": _BATCH, **changes})
    )
    wanted = changed.compile
    backend = wanted.backend
    if backend == "none":
        raise QuantbenchError("--backend none builds nothing; name auto, tensorrt, tensorrt-rtx or onnxruntime")
    if as_trtexec is not None:
        from quantbench.trtexec.write import as_trtexec as written

        file = engine_path(model, out, backend)
        line, missing = written(model, build_options(wanted), file, ranges, as_trtexec)
        echo(line)
        data = calib_dir or inputs
        for said in (*missing, *(("--calib-data: trtexec runs no calibrator; give its cache",) if data else ())):
            echo(f"lost: {said}", err=True)
        return
    options = replace(
        build_options(wanted),
        ranges=read_ranges(ranges) if ranges else None,
        calibrator=given_calibrator(model, calibrator, data_choice(calib_dir, inputs, preprocess), calib_batch),
        begin=place_of(device).begin,
        log_file=wanted.log or engine_path(model, out, backend).with_suffix(".build.log"),
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
        echo(json.dumps(summary, indent=2))
        return
    for note in result.notes:
        echo(note)
    where = f" for {', '.join(result.targets)}" if result.targets else ""
    echo(
        f"{path}: {len(result.engine) / 1e6:.1f} MB by {result.backend} {result.version}{where} "
        f"in {result.seconds:.1f} s"
    )
    if layers:
        echo(f"layers: {layers}")
    if log_file:
        echo(f"log: {log_file} (quantbench inspect reads it)")
