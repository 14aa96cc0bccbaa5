"""`quantbench ptq`: from a float model and a folder of images to an inspected, measured INT8 model."""

from pathlib import Path

import typer

from quantbench import limits
from quantbench.cli.build_options import EngineOptions
from quantbench.cli.options import (
    CalibData,
    Classes,
    Devices,
    Effort,
    Equalize,
    ForOnnxruntime,
    InputData,
    KeepFloat,
    MaxBad,
    MaxDrop,
    MinSqnr,
    NoCompile,
    Overwrite,
    Preprocess,
    Recipe,
    ResidualFloat,
    Rounding,
    RunJson,
    Smooth,
    Threads,
    Trust,
    WeightScales,
    grouped,
    in_panels,
)
from quantbench.terminal import echo

_DEMO = "demo"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ptq")(ptq)


@in_panels
@grouped
def ptq(
    model: str = typer.Argument(None, help="ONNX file, or a torch checkpoint whose architecture the recipe names."),
    calib_dir: CalibData = None,
    inputs: InputData = None,
    recipe: Recipe = None,
    out: Path = typer.Option(None, help="Run folder. (default: runs/MODEL-CALIBRATOR)"),
    calibrator: str = typer.Option(
        None,
        help="auto (default: mse on the images with signal, or minmax, judged by the outputs), mse, minmax, entropy, "
        "percentile[:99.9], legacy, a name from calibrators/, or file.py:Class.",
    ),
    preprocess: Preprocess = None,
    batch_size: int = typer.Option(None, help="Images a batch while calibrating."),
    max_images: int = typer.Option(None, help="Most calibration images, spread evenly over the folder."),
    max_bad: MaxBad = None,
    eval_dir: Path = typer.Option(
        None, "--eval-data", "--eval-dir", help="Data to compare FP32 and INT8 on, in the same forms."
    ),
    labels: str = typer.Option(
        None,
        help="Labels of --eval-dir: none, folder, file-name, yolo (boxes in labels/ beside images/), csv=FILE, "
        "coco=FILE, masks (masks/ beside images/), cls (.cls, .txt or .json in tar shards).",
    ),
    classes: Classes = None,
    keep_float: KeepFloat = None,
    plugin_precision: list[str] = typer.Option(
        None, metavar="NAME=int8", help="A plugin, by name or operator, that gets Q/DQ; NAME=int8-tensor: a Q alone."
    ),
    no_bias_correction: bool = typer.Option(
        False, "--no-bias-correction", help="Leave the mean error of each channel in, instead of taking it out."
    ),
    rounding: Rounding = None,
    weight_scales: WeightScales = None,
    effort: Effort = None,
    equalize: Equalize = None,
    smooth: Smooth = None,
    placement: str = typer.Option(None, help="rules, or best: try variants against the TensorRT predictor."),
    for_tensorrt: str = typer.Option(
        None, "--for", help="Version of TensorRT that best placement and the prediction speak of. (default: 10.9)"
    ),
    device: Devices = None,
    implicit: bool = typer.Option(
        False, "--implicit", help="Hand the ranges to TensorRT 10 or older instead of Q/DQ; later versions get Q/DQ."
    ),
    no_compile: NoCompile = False,
    for_onnxruntime: ForOnnxruntime = False,
    min_agreement: float = typer.Option(None, help="Exit 3 where fewer percent of answers are FP32's."),
    min_sqnr: MinSqnr = None,
    max_drop: MaxDrop = None,
    residual_float: ResidualFloat = False,
    threads: Threads = None,
    workers: int = typer.Option(0, min=0, help="Threads that decode images; 0: one for each core."),
    processes: int = typer.Option(0, min=0, max=limits.PROCESSES, help="Processes that calibrate; 0: this one."),
    ray: str = typer.Option("", metavar="ADDRESS", help="Calibrate on this Ray cluster ('auto', 'local', host:port)."),
    pieces: int = typer.Option(None, min=1, help="Pieces of the calibration data for them. (default: 32)"),
    reuse_cache: bool = typer.Option(False, "--reuse-cache", help="Take the run folder's calibration.cache as it is."),
    refresh: bool = typer.Option(False, "--refresh", help="Calibrate anew, whatever the run folder holds."),
    trust: Trust = False,
    overwrite: Overwrite = False,
    as_json: RunJson = False,
    *,
    build: EngineOptions,
) -> None:
    """Calibrate, insert Q/DQ, check, compile, measure and report.

    Without a model: the demo recipe's EfficientNet-Lite0.

    The same command again goes on where an interrupted run stopped. Under torchrun all its processes calibrate.

    Example: quantbench ptq model.onnx --calib-dir imgs --eval-dir val --labels folder
    """
    import gc
    from dataclasses import replace

    from quantbench.cli.gate import gate
    from quantbench.cli.requests import devices, input_paths, ptq_request, unused
    from quantbench.cores import use_decoders
    from quantbench.decide.costs import times_of
    from quantbench.decide.gates import Gates, outputs_missed
    from quantbench.errors import QuantbenchError
    from quantbench.progress import Progress
    from quantbench.ptq.cache_policy import Policy
    from quantbench.ptq.pipeline import run_ptq
    from quantbench.ptq.ranks import group
    from quantbench.ptq.request import Spread
    from quantbench.ptq.share import count_share
    from quantbench.recipe import Recipe, load_recipe
    from quantbench.recipe_files import recipe_path
    from quantbench.report.decision import decide
    from quantbench.report.write import summary_lines, write_reports

    if reuse_cache and refresh:
        raise QuantbenchError("--reuse-cache and --refresh contradict each other; give one")
    counted_on, timed_on = devices(device or ())
    changes = {
        "model": model,
        "out": out,
        "threads": threads,
        "data.calib_dir": calib_dir,
        "data.inputs": input_paths(inputs) if inputs else None,
        "data.preprocess": preprocess,
        "data.max_images": max_images,
        "data.max_bad": max_bad,
        "evaluation.dir": eval_dir,
        "evaluation.labels": labels,
        "evaluation.classes": classes,
        "calibration.calibrator": calibrator,
        "calibration.batch_size": batch_size,
        "calibration.device": counted_on,
        "calibration.bias_correction": False if no_bias_correction else None,
        "calibration.rounding": rounding,
        "calibration.weight_scales": weight_scales,
        "calibration.effort": effort,
        "calibration.equalize": equalize,
        "calibration.smooth": smooth,
        "placement.method": placement,
        "placement.tensorrt": for_tensorrt,
        "placement.device": timed_on or None,
        "placement.keep_float": tuple(keep_float) if keep_float else None,
        "placement.plugin_precision": tuple(plugin_precision) if plugin_precision else None,
        "placement.for_onnxruntime": True if for_onnxruntime else None,
        "placement.residual": False if residual_float else None,
        "compile.quantization": "implicit" if implicit else None,
        **build.changes(),
        **({"compile.backend": "none"} if no_compile else {}),
    }
    named = recipe or (None if model is not None else _DEMO)
    changed = load_recipe(recipe_path(named), changes, trust=trust) if named else Recipe().merged(changes)
    use_decoders(workers)
    policy: Policy = "reuse" if reuse_cache else "refresh" if refresh else "check"
    progress = Progress("none" if as_json else None)
    for line in unused(changed, "ptq"):
        progress.note(line)
    request = replace(ptq_request(changed, trust=trust), spread=Spread(processes, ray, pieces or 0))
    own = group()
    if own is not None:
        request = replace(request, device=own.device(request.device))
    if [processes > 0, ray != "", own is not None].count(True) > 1:
        raise QuantbenchError("--processes, --ray and torchrun contradict each other; take one")
    if pieces and not (processes or ray or own is not None):
        raise QuantbenchError("--pieces is for --processes, --ray or torchrun; give one of them")
    if own is not None and own.rank:
        count_share(request, own, progress, overwrite=overwrite, refresh=refresh)
        return
    gc.freeze()  # what was imported lives as long as the process: no collection need look at it
    folder, record = run_ptq(request, progress, overwrite=overwrite, cache=policy)
    timed = changed.placement.device
    decision = decide(folder, record, times=times_of(timed), device=timed)
    write_reports(folder, record, decision)
    if as_json:
        echo(record.to_json(), nl=False)
    else:
        for line in summary_lines(folder, record, decision.verdict):
            echo(line)
    gate(
        outputs_missed(Gates(min_agreement, min_sqnr, max_drop), record.evaluation.outputs), decision.verdict.next_step
    )
