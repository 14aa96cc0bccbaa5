"""The options that `build`, `ptq` and `qat-export` share: how the engine is built."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import typer

from quantbench.errors import QuantbenchError


class _Shared(NamedTuple):
    type: Any
    metavar: str | None
    help: str


# Field of the recipe's `compile` section; one that is not given leaves what the recipe says.
_OPTIONS = {
    "backend": _Shared(str, "NAME", "auto, tensorrt, tensorrt-rtx, onnxruntime; ptq and qat-export: none as well."),
    "target": _Shared(str, "NAMES", "GPU families for tensorrt-rtx, with commas: sm80,sm86,sm89,sm120."),
    "precision": _Shared(list[str], "NAMES", "fp32, tf32, fp16, bf16, int8, best; several with commas."),
    "shapes": _Shared(
        list[str], "SHAPES", "One profile: x=1x3x224x224:8x3x224x224:32x3x224x224, more inputs by comma."
    ),
    "batch": _Shared(int, "N", "Size of a dynamic batch that --shapes does not name."),
    "pool": _Shared(list[str], "NAME=SIZE", "Memory pool, e.g. workspace=4G or dla_managed_sram=1M."),
    "timing_cache": _Shared(
        Path, None, "Folder of timing caches; TensorRT only. (default: ~/.cache/quantbench/timing)"
    ),
    "tactic_sources": _Shared(str, "NAMES", "As trtexec: +NAME,-NAME."),
    "optimization_level": _Shared(int, "N", "Builder optimization level, 0 to 5."),
    "refittable": _Shared(bool, None, "Weights can be changed later."),
    "version_compatible": _Shared(bool, None, "Runs on later versions as well."),
    "hardware_compatible": _Shared(str, "NAME", "ampere_plus or same_compute_capability."),
    "sparsity": _Shared(bool, None, "Use 2:4 sparse kernels where weights allow."),
    "dla_core": _Shared(int, "N", "Build for this DLA core."),
    "gpu_fallback": _Shared(bool, None, "Layers that the DLA lacks run on the GPU."),
    "layer_precision": _Shared(list[str], "PAIR", "PATTERN=PRECISION by layer name; the last match wins."),
    "precision_constraints": _Shared(str, "NAME", "none, prefer or obey; goes with --layer-precision."),
    "strongly_typed": _Shared(bool, None, "Types from the ONNX alone."),
    "weakly_typed": _Shared(bool, None, "The builder chooses types; TensorRT 10 and older."),
    "plugin": _Shared(list[Path], "LIB.so", "Library of plugins, loaded before the model is read; once for each."),
    "serialize_plugins": _Shared(bool, None, "Put the libraries of --plugin into the engine."),
    "exclude_lean_runtime": _Shared(bool, None, "Leave the lean runtime out of a version-compatible engine."),
    "avg_timing": _Shared(int, "N", "Time each kernel N times for one figure."),
    "aux_streams": _Shared(int, "N", "Streams that the engine may use beside its own."),
    "build_route": _Shared(str, "ROUTE", "Route of TensorRT 11.1's performance tuner."),
    "forbid_tactic": _Shared(list[str], "PATTERN", "Kernels not to choose: 0x… or, with --replay, names."),
    "choose": _Shared(list[str], "LAYER=TACTIC", "The kernel of a layer; quantbench tactics lists them."),
    "replay": _Shared(Path, "FILE", "Take the kernels of this build log (or timing cache) again."),
    "log": _Shared(Path, None, "File for the verbose build log. (default: beside the engine)"),
}


def with_build_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the shared options behind its own. It gets those that were given as `build`: changes for
    `Recipe.merged`, keyed `compile.NAME`."""

    def run(**given: Any) -> None:
        shared = {name: _as_field(name, given.pop(name)) for name in _OPTIONS}
        if shared.pop("weakly_typed"):
            if shared["strongly_typed"]:
                raise QuantbenchError("--strongly-typed and --weakly-typed contradict each other; give one")
            shared["strongly_typed"] = False
        command(**given, build={f"compile.{name}": value for name, value in shared.items() if value is not None})

    own = inspect.signature(command)
    kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.parameters.values() if p.name != "build"]
    parameters = [*kept, *(_parameter(name, option) for name, option in _OPTIONS.items())]
    # Typer reads a command's options from these two.
    vars(run)["__signature__"] = own.replace(parameters=parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run


def _parameter(name: str, option: _Shared) -> inspect.Parameter:
    default = typer.Option(
        None,
        f"--{name.replace('_', '-')}",
        metavar=option.metavar,
        help=option.help,
        rich_help_panel="Engine build",
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option.type)


def _as_field(name: str, value: Any) -> Any:
    """What the recipe's field holds; None where nothing was given."""
    if isinstance(value, list | tuple):
        return (",".join(value) if name == "precision" else tuple(value)) if value else None
    return value
