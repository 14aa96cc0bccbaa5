"""`quantbench sensitivity`: what each fused region costs in accuracy."""

from pathlib import Path
from shlex import quote

import typer

from quantbench.cli.options import DecideData, DecideEval, DecideModel, DecideRecipe, Preprocess, Threads, Trust
from quantbench.terminal import echo

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sensitivity")(sensitivity)


def sensitivity(
    model: DecideModel = None,
    data: DecideData = None,
    eval_data: DecideEval = None,
    recipe: DecideRecipe = None,
    calibrator: str = typer.Option("mse", help="Threshold method of the ranges."),
    preprocess: Preprocess = None,
    images: int = typer.Option(24, min=1, help="Images to measure on."),
    device: str = typer.Option(
        "", help="Learnt device on which INT8 saves so many ms a region (quantbench device list)."
    ),
    threads: Threads = None,
    out: Path = typer.Option(Path("sensitivity.json"), help="Result, to be edited and handed to tune."),
    trust: Trust = False,
    as_json: bool = typer.Option(False, "--json", help="Print the result and nothing else."),
) -> None:
    """Measure each region (what TensorRT runs as one kernel) alone in INT8, and the costliest alone in float.

    Example: quantbench sensitivity model.onnx --data imgs, then edit sensitivity.json, then
    quantbench tune model.onnx --data imgs --min-agreement 99 --sensitivity sensitivity.json
    """
    from quantbench.cli.decide_options import bench_of, recipe_of
    from quantbench.decide.costs import savings_of
    from quantbench.decide.sensitivity import measure_sensitivity
    from quantbench.records.folded import NAMES
    from quantbench.records.search import Settings

    savings = savings_of(device)
    changes = {"model": model, "data.preprocess": preprocess, "threads": threads}
    asked = recipe_of(recipe, changes, data, eval_data, trust=trust)
    bench = bench_of(asked, quiet=as_json, trust=trust)
    settings = Settings(
        calibrator, bias_correction=asked.calibration.bias_correction, best_placement=bench.best_placement
    )
    found = measure_sensitivity(bench, settings, scaling=bench.scaling, images=images, savings=savings)
    found.save(out)
    if as_json:
        echo(found.to_json(), nl=False)
        return
    scaled = f", channels scaled by {' and '.join(NAMES[each] for each in found.scaled)}" if found.scaled else ""
    echo(f"{len(found.regions)} regions, {calibrator} ranges, {found.images} images, without bias correction{scaled}")
    saves = f" | µs saved on {device}" if device else ""
    echo(f"SQNR alone in INT8 | noise that goes with it in float | multiply-adds | same answers{saves} | region")
    for cost in found.regions[:_SHOWN]:
        sqnr = f"{cost.sqnr_db:6.1f} dB" if cost.sqnr_db is not None else "   equal "
        gain = f"{100 * cost.float_gain:6.1f} %" if cost.float_gain is not None else "       -"
        same = f"{100 * cost.agreement:6.1f} %" if cost.agreement is not None else "       -"
        saved = "".join(f" {1e3 * ms:7.1f}" for ms in cost.saved_ms.values()) or ("       -" if device else "")
        echo(f"{sqnr} {gain} {100 * cost.macs:6.2f} % {same}{saved}  {cost.name}")
    if len(found.regions) > _SHOWN:
        echo(f"and {len(found.regions) - _SHOWN} more in {out}")
    named = f"{quote(model) if model else ''} --data {quote(data or 'IMAGES')}"
    echo(f"next: quantbench tune {named} --min-agreement 99 --sensitivity {quote(str(out))}")
