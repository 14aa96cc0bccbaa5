"""`quantbench qat-export`: from a torch checkpoint to a Q/DQ ONNX, calibrated and perhaps fine-tuned."""

import contextlib
import sys
from pathlib import Path

import typer

from quantbench.cli.build_options import EngineOptions
from quantbench.cli.options import (
    KeepFloat,
    MaxImages,
    NoCompile,
    Overwrite,
    Preprocess,
    Recipe,
    ResidualFloat,
    RunJson,
    TorchDevices,
    Trust,
    grouped,
)
from quantbench.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("qat-export")(qat_export)


@grouped
def qat_export(
    model: str = typer.Argument(None, help="Checkpoint (yolov8.pt), or a torchvision classifier with --weights."),
    weights: Path = typer.Option(None, help="State dict of a torchvision classifier or of the recipe's architecture."),
    recipe: Recipe = None,
    out: Path = typer.Option(None, help="Run folder. (default: runs/MODEL-qat)"),
    calib_dir: Path = typer.Option(None, help="Folder of calibration images. (default: photos of installed packages)"),
    max_images: MaxImages = None,
    calibrator: str = typer.Option(None, help="mse (default), minmax, entropy, percentile[:99.9], legacy."),
    preprocess: Preprocess = None,
    data: Path = typer.Option(None, help="Training data: YOLO data.yaml, or a folder with train/ and val/."),
    epochs: int = typer.Option(None, help="Fine-tune for so many epochs before the export."),
    batch_size: int = typer.Option(None, help="Images a training batch, all processes together."),
    rate: float = typer.Option(None, help="Learning rate at the start; it falls by a cosine."),
    distill: float = typer.Option(None, help="Weight of the loss against the float model."),
    learned_scales: bool = typer.Option(None, "--learned-scales", help="Train activation scales too (LSQ)."),
    resume: bool = typer.Option(False, "--resume", help="Go on after the last whole epoch in the run folder."),
    size: str = typer.Option(
        None, metavar="H,W", help="Height and width of the input, or one side. (default: 640 for YOLO, else 224)"
    ),
    exporter: str = typer.Option(None, help="torch's exporter: dynamo or legacy."),
    opset: int = typer.Option(None, help="ONNX opset, 17 or newer."),
    dynamic: bool = typer.Option(None, "--dynamic", help="Leave the batch size open."),
    int8_weights: bool = typer.Option(None, "--int8-weights", help="Store weights as INT8: a quarter of the size."),
    keep_float: KeepFloat = None,
    residual_float: ResidualFloat = False,
    no_compile: NoCompile = False,
    device: TorchDevices = None,
    torch_on: str = typer.Option("", "--torch", hidden=True, help="The older word for --device cpu and cuda."),
    trust: Trust = False,
    overwrite: Overwrite = False,
    as_json: RunJson = False,
    *,
    build: EngineOptions,
) -> None:
    """Insert Q/DQ into a torch model, calibrate, fine-tune, export, compile and report."""
    from quantbench.cli.requests import devices, image_size, unused
    from quantbench.errors import QuantbenchError
    from quantbench.progress import Progress
    from quantbench.recipe import Recipe, load_recipe
    from quantbench.recipe_files import recipe_path

    try:
        import torch  # noqa: F401 - an extra; its absence deserves a plain line
    except ModuleNotFoundError as error:
        raise QuantbenchError("torch is not installed; pip install 'quantbench[qat]'") from error
    from quantbench.cli.qat_request import qat_request
    from quantbench.qat.distributed import is_first
    from quantbench.qat.pipeline import run_qat_export
    from quantbench.qat.report import summary_lines

    runs_on, timed_on = devices((*(device or ()), *((torch_on,) if torch_on else ())), "for torch")
    changes = {
        "model": model,
        "weights": weights,
        "out": out,
        "data.calib_dir": calib_dir,
        "data.max_images": max_images,
        "data.preprocess": preprocess,
        "calibration.calibrator": calibrator,
        "training.data": data,
        "training.epochs": epochs,
        "training.batch": batch_size,
        "training.rate": rate,
        "training.distill": distill,
        "training.learned_scales": learned_scales,
        "export.size": image_size(size) if size else None,
        "export.exporter": exporter,
        "export.opset": opset,
        "export.dynamic_batch": dynamic,
        "export.int8_weights": int8_weights,
        "placement.keep_float": tuple(keep_float) if keep_float else None,
        "placement.residual": False if residual_float else None,
        "placement.device": timed_on or None,
        **build.changes(),
        **({"compile.backend": "none"} if no_compile else {}),
    }
    changed = load_recipe(recipe_path(recipe), changes, trust=trust) if recipe else Recipe().merged(changes)
    progress = Progress("none" if as_json or not is_first() else None)
    for line in unused(changed, "qat-export"):
        progress.note(line)
    # With --json stdout belongs to run.json; a trainer's and an exporter's own chatter goes to stderr.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        request = qat_request(changed, torch_on=runs_on or "", trust=trust, resume=resume)
        folder, record = run_qat_export(request, progress, overwrite=overwrite)
    if record is None:
        return
    if as_json:
        echo(record.to_json(), nl=False)
        return
    for line in summary_lines(folder, record):
        echo(line)
