"""Options that several commands share, each declared once: a type to annotate a parameter with.

A whole group of them is a frozen dataclass of `option` fields; `grouped` gives it to a command as one value.
"""

import copy
import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from quantbench import limits

Recipe = Annotated[str | None, typer.Option(help="Recipe: a name (see 'quantbench recipes') or a YAML file.")]


def _known_preset(name: str | None) -> str | None:
    """A typo is told whatever the data: arrays need no preprocessing, and would hide it."""
    if name is not None:
        from quantbench.images.preprocess import preset

        preset(name)
    return name


Preprocess = Annotated[
    str | None,
    typer.Option(
        callback=_known_preset,
        help="Preset: imagenet, efficientnet-lite, yolo; a recipe's data.preprocess declares it key by key: shortest, "
        "exact, letterbox, pad, crop, filter, scale, mean, std, channels, layout, dtype (docs/data.md).",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(help="Class names, one a line, or the training folder. (default: the model's metadata)"),
]
CalibData = Annotated[
    Path | None,
    typer.Option(
        "--calib-data",
        "--calib-dir",
        help="Folder of images, .npy/.npz files or a folder of them, tar shards (a folder, x-{000..012}.tar), or "
        "file.py:NAME.",
    ),
]
InputData = Annotated[
    list[str] | None,
    typer.Option(
        "--input", metavar="NAME=PATH", help="Images or arrays of one input; for models of several, repeated."
    ),
]
MaxImages = Annotated[int | None, typer.Option(help="Most calibration images.")]
KeepFloat = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Node name pattern to keep in float; may be repeated.")
]
Effort = Annotated[
    str | None, typer.Option(help="fast, or full: minutes more, where accuracy misses (docs/accuracy.md).")
]
Rounding = Annotated[
    str | None, typer.Option(help="Weights: nearest, or adaptive: in the worst layers for the layer's output.")
]
WeightScales = Annotated[
    str | None, typer.Option(help="A channel's: max (default), or mse: of the least squared error of its weights.")
]
ResidualFloat = Annotated[
    bool,
    typer.Option(
        "--residual-float", help="Leave skip connections in float: slower, for nets that lose accuracy in them."
    ),
]
Equalize = Annotated[
    str | None,
    typer.Option(
        metavar="auto|on|off",
        help="Bring channels between convs to like ranges first; auto: where that helps. (default: auto)",
    ),
]
Smooth = Annotated[
    str | None,
    typer.Option(
        metavar="auto|on|off",
        help="SmoothQuant: norms and Linears before Linears likewise; auto: where that helps. (default: auto)",
    ),
]
ForOnnxruntime = Annotated[
    bool,
    typer.Option(
        "--for-onnxruntime",
        help="Place Q/DQ, and levels in model.ort.onnx, as suits onnxruntime on a CPU; no engine unless --backend or "
        "--target asks for one.",
    ),
]
NoCompile = Annotated[bool, typer.Option("--no-compile", help="Build no engine.")]
MinSqnr = Annotated[float | None, typer.Option(help="Exit 3 where the worst output has fewer dB.")]
MaxDrop = Annotated[float | None, typer.Option(help="Exit 3 where the task's measure loses more points.")]
_THREADS, _MAX_BAD = "onnxruntime threads; 0 lets it choose.", "Corrupt images to skip before giving up."
# Without a number where a recipe may have one, and checks it; with its bounds where a command takes no recipe.
Threads = Annotated[int | None, typer.Option(help=_THREADS)]
ThreadCount = Annotated[int, typer.Option(min=0, max=limits.THREADS, help=_THREADS)]
MaxBad = Annotated[int | None, typer.Option(help=_MAX_BAD)]
MaxBadCount = Annotated[int, typer.Option(min=0, help=_MAX_BAD)]
Trust = Annotated[bool, typer.Option("--trust", help="Run code that the recipe names; unpickle a checkpoint in full.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")]
Gpu = Annotated[str, typer.Option("--gpu", help="Compute capability, as sm87 (default: any before Blackwell).")]
RunJson = Annotated[bool, typer.Option("--json", help="Print run.json on stdout and nothing else.")]
PlainJson = Annotated[bool, typer.Option("--json", help="Print plain data on stdout and nothing else.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
_TIMED = "A learnt device: time it on that, in the report; best placement then makes its ms least. Given twice: both."
Devices = Annotated[
    list[str] | None,
    typer.Option("--device", metavar="NAME", help=f"cpu, cuda or cuda:1: calibrate there (default: cpu). {_TIMED}"),
]
TorchDevices = Annotated[
    list[str] | None,
    typer.Option(
        "--device", metavar="NAME", help=f"cpu, cuda or cuda:1: torch runs there (default: a card if any). {_TIMED}"
    ),
]
JsonToo = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# What `sensitivity` and `tune` search on.
DecideModel = Annotated[str | None, typer.Argument(help="ONNX file. (default: the recipe's)")]
DecideRecipe = Annotated[str | None, typer.Option(help="Recipe: a name or a YAML file.")]
DecideData = Annotated[
    str | None,
    typer.Option(
        "--data",
        "--calib-data",
        "--calib-dir",
        help="Folder of calibration images, .npy/.npz, tar shards, or a data set such as 'photos?crops=64'.",
    ),
]
DecideEval = Annotated[
    str | None,
    typer.Option("--eval-data", "--eval-dir", help="Images to measure on. (default: the calibration images)"),
]


def option(**settings: Any) -> Any:
    """A field of a group: an option of its name, None where it is not given; `settings` are those of typer.Option."""
    return dataclasses.field(default=None, metadata=settings)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as Typer can take it: a parameter whose type is a dataclass of options becomes these options, one a
    field, in their order; the command gets the dataclass."""
    own = inspect.signature(command)
    groups: dict[str, Any] = {
        p.name: p.annotation for p in own.parameters.values() if dataclasses.is_dataclass(p.annotation)
    }

    def run(**given: Any) -> None:
        built = {
            name: group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**given, **built)

    parameters: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        if parameter.name in groups:
            parameters += [_parameter(field) for field in dataclasses.fields(groups[parameter.name])]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    # Typer reads a command's options from these two.
    vars(run)["__signature__"] = own.replace(parameters=parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run


_PANELS = {
    "Data": "calib_dir inputs preprocess batch_size max_images max_bad",
    "Comparison": "eval_dir labels classes min_agreement min_sqnr max_drop",
    "Algorithms": "effort rounding weight_scales no_bias_correction",
    "Spread": "threads workers processes ray pieces",
    "Placement": "keep_float plugin_precision placement for_tensorrt device for_onnxruntime residual_float",
}


def in_panels(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, made by `grouped`, with its own options in panels of its help: a long list finds no reader."""
    panels = {name: panel for panel, names in _PANELS.items() for name in names.split()}
    own = inspect.signature(command)
    parameters = []
    for parameter in own.parameters.values():
        if (panel := panels.get(parameter.name)) is not None:
            annotation, default = parameter.annotation, parameter.default
            if get_origin(annotation) is Annotated:
                kind, told = get_args(annotation)
                told = copy.copy(told)
                told.rich_help_panel = panel
                annotation = Annotated[kind, told]
            else:
                default = copy.copy(default)
                default.rich_help_panel = panel
            parameter = parameter.replace(annotation=annotation, default=default)
        parameters.append(parameter)
    vars(command)["__signature__"] = own.replace(parameters=parameters)
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameter(field: "dataclasses.Field[Any]") -> inspect.Parameter:
    default = typer.Option(None, f"--{field.name.replace('_', '-')}", **field.metadata)
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type)
