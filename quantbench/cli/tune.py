"""`quantbench tune`: the fastest variant of a model that is still good enough."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from quantbench.cli.options import (
    DecideData,
    DecideEval,
    DecideModel,
    DecideRecipe,
    Effort,
    ForOnnxruntime,
    MaxImages,
    Preprocess,
    Threads,
    Trust,
)
from quantbench.terminal import echo

if TYPE_CHECKING:
    from quantbench.recipe import Recipe
    from quantbench.records.search import Settings
    from quantbench.report.verdict import Verdict


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tune")(tune)


def tune(
    model: DecideModel = None,
    data: DecideData = None,
    eval_data: DecideEval = None,
    labels: str = typer.Option(
        None, help="Labels of --eval-dir: folder, file-name, yolo, csv=FILE, coco=FILE, masks, cls."
    ),
    classes: Path = typer.Option(None, help="Class names, one a line, or the training folder."),
    recipe: DecideRecipe = None,
    preprocess: Preprocess = None,
    min_agreement: float = typer.Option(None, help="Goal: at least so many percent of answers are FP32's."),
    min_sqnr: float = typer.Option(None, help="Goal: at least so many dB at the worst output."),
    max_drop: float = typer.Option(None, help="Goal: at most so many points of the task's measure lost; wants labels."),
    max_latency: str = typer.Option("", help="Goal: at most so long on --device, as 2.0ms or 800us."),
    min_speedup: float = typer.Option(None, help="Goal: at least so many times float's speed on --device."),
    device: str = typer.Option("", help="Learnt device whose layer times are predicted (quantbench device list)."),
    sensitivity: Path = typer.Option(None, help="Costs of regions (quantbench sensitivity), maybe edited."),
    effort: Effort = None,
    for_onnxruntime: ForOnnxruntime = False,
    max_images: MaxImages = None,
    threads: Threads = None,
    out: Path = typer.Option(None, help="Run folder of the result. (default: runs/MODEL-tuned)"),
    trust: Trust = False,
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done and about how long it takes."),
) -> None:
    """Search thresholds, placement, rounding and regions in float for the variant with most in INT8 that meets the
    goal, by measuring.

    The same command again goes on where an interrupted search stopped. Exits 3 where nothing meets the goal.

    Example: quantbench tune model.onnx --data imgs --eval-dir val --labels folder --max-drop 0.3
    """
    from quantbench.cli.decide_options import bench_of, recipe_of
    from quantbench.cli.gate import gate
    from quantbench.decide.costs import savings_of, timing_of
    from quantbench.decide.estimate import estimate
    from quantbench.decide.gates import Gates
    from quantbench.decide.goal import Goal, milliseconds
    from quantbench.decide.tune import Search
    from quantbench.errors import QuantbenchError
    from quantbench.records.search import TUNE, Sensitivity

    if effort not in (None, "fast", "full"):
        raise QuantbenchError(f"--effort {effort} is neither fast nor full")
    timing = timing_of(device)
    goal = Goal(Gates(min_agreement, min_sqnr, max_drop), milliseconds(max_latency), min_speedup)
    goal.check(timed=timing is not None)
    changes = {"model": model, "data.preprocess": preprocess, "data.max_images": max_images, "threads": threads,
               "evaluation.labels": labels, "evaluation.classes": classes,
               "placement.device": device or None,
               "placement.for_onnxruntime": True if for_onnxruntime else None}  # fmt: skip
    asked = recipe_of(recipe, changes, data, eval_data, trust=trust)
    bench = bench_of(asked, trust=trust)
    folder = out or Path("runs") / f"{bench.run.model_facts.name}-tuned"
    start = shlex.join(
        [
            "quantbench",
            "ptq",
            str(asked.model),
            *_images(asked.data.calib_dir, recipe),
            *(["--device", device] if device else []),
            *(["--for-onnxruntime"] if for_onnxruntime else []),
            *(["--trust"] if trust else []),
        ]
    )
    state = folder.with_name(f"{folder.name}-search")
    search = Search(bench, goal, state, start, "full" if effort == "full" else "fast", timing, savings_of(device))
    if dry_run:
        echo("\n".join(estimate(search)))
        return
    best = search.run(Sensitivity.load(sensitivity) if sensitivity is not None else None)
    verdict = _deliver(asked, best.settings, folder, state, device, trust=trust)
    echo(
        f"trial {best.number} of {len(search.trials)}: {100 * best.int8_macs:.1f} % of multiply-adds in INT8, "
        f"{best.settings.calibrator} ranges{best.settings.in_words()}, layers kept in float: "
        f"{len(best.settings.keep_float) or 'none'}"
    )
    for name in best.settings.keep_float:
        echo(f"  float: {name}")
    echo(f"{verdict.level}: {verdict.headline}. {verdict.sentence}.")
    echo(f"the same by hand: {best.command}")
    echo(f"trials: {folder / TUNE}; report: {folder / 'report.html'}")
    gate(list(best.misses), "more calibration images, --effort full, or fine-tuning: quantbench qat-export")


def _images(folder: Path | None, recipe: str | None) -> list[str]:
    return [*(["--calib-dir", str(folder)] if folder else []), *(["--recipe", recipe] if recipe else [])]


def _deliver(asked: "Recipe", best: "Settings", folder: Path, state: Path, device: str, *, trust: bool) -> "Verdict":
    """The run of the chosen variant, with its report and what the search left in `state`; the verdict on it."""
    import glob
    import shutil

    from quantbench.cli.requests import ptq_request
    from quantbench.decide.costs import times_of
    from quantbench.progress import Progress
    from quantbench.ptq.pipeline import run_ptq
    from quantbench.records.search import SENSITIVITY, TUNE
    from quantbench.report.decision import decide
    from quantbench.report.write import write_reports

    kept = (*asked.placement.keep_float, *(glob.escape(name) for name in best.keep_float))
    chosen = asked.merged(
        {
            "out": folder,
            "calibration.calibrator": best.calibrator,
            "placement.keep_float": kept,
            "placement.residual": False if best.residual_float else None,
            "placement.method": "best" if best.best_placement else "rules",
            "placement.device": device or None,
            "calibration.equalize": "on" if best.equalize else "off",
            "calibration.smooth": "on" if best.smooth else "off",
            "calibration.rounding": "adaptive" if best.adaptive else "nearest",
        }
    )
    path, record = run_ptq(ptq_request(chosen, trust=trust), Progress(), cache="own")
    for name in (TUNE, SENSITIVITY):
        if (state / name).exists():
            shutil.copyfile(state / name, path / name)
    decision = decide(path, record, times=times_of(device))
    write_reports(path, record, decision)
    return decision.verdict
