"""`quantbench eval`: any number of models on the same images, with intervals, by class, and in pairs."""

import json
import shlex
from pathlib import Path

import typer

from quantbench.cli.options import Classes, Json, MaxBadCount, MaxDrop, MinSqnr, Preprocess, ThreadCount
from quantbench.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval")(evaluate)


def evaluate(
    models: list[Path] = typer.Argument(..., help="ONNX files; the others are held against the first."),
    data: str = typer.Option(..., help="Folder of images, tar shards, or a data set (quantbench recipes: datasets)."),
    labels: str = typer.Option(
        "none", help="none, folder, file-name, yolo, csv=FILE, coco=FILE, masks (masks/ beside images/), cls."
    ),
    classes: Classes = None,
    task: str = typer.Option("auto", help="auto, classes, boxes, masks, keypoints, values: what the outputs are."),
    metric: str = typer.Option("", help="Your own: file.py:function(outputs, labels) that gives a number an image."),
    preprocess: Preprocess = None,
    recipe: str = typer.Option(None, help="Recipe whose data: preprocess: is taken."),
    batch_size: int = typer.Option(8, min=1, help="Images a batch."),
    max_images: int = typer.Option(1024, min=1, help="Most images, spread evenly over the folder."),
    max_bad: MaxBadCount = 0,
    threads: ThreadCount = 0,
    min_agreement: float = typer.Option(None, help="Exit 3 where fewer percent of answers are the first model's."),
    min_sqnr: MinSqnr = None,
    max_drop: MaxDrop = None,
    reference: int = typer.Option(
        0, min=0, help="Hold onnxruntime's INT8 against quantbench's own integers on so many images; slow."
    ),
    out: Path = typer.Option(None, help="Write the evaluation as JSON here."),
    as_json: Json = False,
) -> None:
    """Measure models on the same images.

    Top-1 and top-5, mAP, mIoU or your own metric where there are labels; same answers and SQNR of each output without.
    Differences come with a paired test and are called one only where it is.

    Example: quantbench eval model.onnx runs/model-minmax/model.ort.onnx --data val --labels folder
    """
    from quantbench.atomic import write_json
    from quantbench.cli.evaluate_print import echo_evaluation
    from quantbench.cli.gate import gate
    from quantbench.decide.eval_models import DataRequest, EvalRequest, eval_models
    from quantbench.decide.gates import Gates, failures
    from quantbench.evaluate.outputs import measures_of
    from quantbench.progress import Progress
    from quantbench.recipe import load_recipe
    from quantbench.recipe_files import recipe_path

    # Of the recipe only data is taken, whatever code it names.
    declared = load_recipe(recipe_path(recipe), trust=True).data.preprocess if recipe else preprocess
    request = EvalRequest(
        tuple(models),
        DataRequest(data, labels, classes, preprocess or declared, batch_size, max_images, max_bad),
        task,
        metric,
        threads,
        reference,
    )
    evaluation = eval_models(request, Progress("none" if as_json else None))
    if out is not None:
        write_json(out, evaluation.to_json())
    if as_json:
        echo(json.dumps(evaluation.to_json(), indent=2))
    else:
        echo_evaluation(evaluation)
    gates = Gates(min_agreement, min_sqnr, max_drop)
    missed = [
        f"{model.name}: {line}"
        for index, model in enumerate(evaluation.models[1:], start=1)
        for line in failures(gates, measures_of(evaluation, index), request.metric_name)
    ]
    gate(
        missed, f"{shlex.join(('quantbench', 'sensitivity', str(models[0]), '--data', data))} says which layers cost it"
    )
