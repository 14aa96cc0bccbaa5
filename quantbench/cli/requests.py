"""Where a recipe ends: its sections, changed by the command line, as the values that the rooms below take."""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from quantbench.compilation.request import CompileRequest
from quantbench.engines.base import BuildOptions
from quantbench.engines.build_arguments import (
    chosen_tactics,
    default_timing_cache,
    existing,
    layer_precisions,
    library,
    pools,
    precisions,
    words,
)
from quantbench.engines.shapes import parse_profile
from quantbench.errors import QuantbenchError
from quantbench.folding.options import FoldOptions
from quantbench.predict.versions import PredictedFor, version_of
from quantbench.ptq.calibrate_on import is_place
from quantbench.ptq.request import DataChoice, EvaluationChoice, InputChoice, ModelChoice, PtqRequest
from quantbench.qdq.options import BIAS_SWEEPS, FULL_BIAS_SWEEPS, PlacementOptions, WeightOptions
from quantbench.recipe import Calibration, Compile, Placement, Recipe


def ptq_request(recipe: Recipe, *, trust: bool = False) -> PtqRequest:
    """What `quantbench ptq` does for `recipe`; `trust` unpickles its checkpoint in full.

    Raises QuantbenchError for text that is not of its form."""
    data, evaluation, architecture = recipe.data, recipe.evaluation, recipe.architecture
    return PtqRequest(
        model=ModelChoice(recipe.model or "", architecture, trust),
        data=DataChoice(
            data.calib_dir,
            tuple(InputChoice(name, given.path, given.preprocess) for name, given in data.inputs.items()),
            data.dataset,
            data.preprocess,
            data.max_images,
            data.max_bad,
        ),
        evaluation=EvaluationChoice(
            evaluation.dir, evaluation.dataset, evaluation.labels, evaluation.classes, evaluation.max_images
        ),
        latency=evaluation.latency,
        calibrator=recipe.calibration.calibrator,
        batch_size=recipe.calibration.batch_size,
        bias_correction=recipe.calibration.bias_correction,
        weights=weight_options(recipe.calibration),
        fold=FoldOptions(recipe.calibration.equalize, recipe.calibration.smooth),
        placement=placement_options(recipe.placement),
        best_placement=recipe.placement.method == "best",
        predicted=PredictedFor(recipe.placement.tensorrt, recipe.placement.gpu, recipe.placement.device),
        compile=_engine(recipe),
        threads=recipe.threads,
        device=recipe.calibration.device,
        out=recipe.out,
        recipe=recordable(recipe),
    )


def recordable(recipe: Recipe) -> dict[str, JsonValue]:
    """The recipe as run.json keeps it. Raises QuantbenchError, before anything runs, for what JSON cannot hold:
    infinities, and names that are no UTF-8, in the recipe or on the command line."""
    data = recipe.model_dump(mode="python")
    for key, value in _leaves(data, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise QuantbenchError(f"{key} = {value} is no number that a run can record; give a finite one")
        _refuse_bytes(key, value)
    for argument in (*sys.argv[1:], str(Path.cwd())):
        _refuse_bytes("the command line", argument)
    return recipe.model_dump(mode="json")


def _refuse_bytes(key: str, value: Any) -> None:
    try:
        str(value).encode("utf-8")
    except UnicodeEncodeError as error:
        raise QuantbenchError(
            f"{key}: the name {value!a} is no UTF-8, so that no run can record it; rename it"
        ) from error


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(str(name), f"{key}.{name}" if key else str(name))
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, key)
    else:
        yield key, value


# What a recipe may hold for another command: nothing in `ptq` is random or trained, nothing in `qat-export` evaluated.
_UNUSED = {
    "ptq": ("seed", "weights", "training", "export"),
    "qat-export": ("evaluation", "calibration.device", "calibration.bias_correction", "calibration.weight_scales",
                   "calibration.rounding", "calibration.effort", "calibration.equalize", "calibration.smooth",
                   "threads"),
}  # fmt: skip


def unused(recipe: Recipe, command: str) -> list[str]:
    """A line on the keys of `recipe` that are set and do nothing in `command`; none where there are no such keys."""
    given, default = recipe.model_dump(), Recipe().model_dump()
    found = [key for key in _UNUSED[command] if _at(given, key) != _at(default, key)]
    return [f"recipe: {', '.join(found)} {'does' if len(found) == 1 else 'do'} nothing in {command}"] if found else []


def _at(data: Any, key: str) -> Any:
    for part in key.split("."):
        data = data[part]
    return data


def placement_options(section: Placement) -> PlacementOptions:
    """The switches of the rules; what is not theirs is the caller's to look at. A version of TensorRT that is named
    sets those that hang on it; without one the rules suit all. Raises QuantbenchError for an unknown version."""
    switches = section.model_dump(exclude={"method", "tensorrt", "gpu", "device", "plugin_precision"})
    switches |= plugin_switches(section.plugin_precision)
    named = version_of(section.tensorrt, section.gpu) if section.tensorrt or section.gpu else None
    return PlacementOptions(**switches, silu_residual=bool(section.tensorrt and named and named.silu_fuses))


def weight_options(section: Calibration) -> WeightOptions:
    """How weights become integers: the effort, unless a word of its own says otherwise."""
    full = section.effort == "full"
    judged = full and section.rounding is None
    return WeightOptions(
        section.weight_scales,
        judged or section.rounding == "adaptive",
        judged,
        FULL_BIAS_SWEEPS if full else BIAS_SWEEPS,
    )


def _engine(recipe: Recipe) -> CompileRequest:
    """What is built in a run; of a model that is for onnxruntime on a CPU no engine that nobody asked for."""
    section = recipe.compile
    if not recipe.placement.for_onnxruntime:
        return compile_request(section)
    if section.quantization == "implicit":
        raise QuantbenchError("--for-onnxruntime is for a CPU, and --implicit hands ranges to TensorRT; give one")
    unasked = section.backend == "auto" and not section.target
    return compile_request(section.model_copy(update={"backend": "none"}) if unasked else section)


def compile_request(section: Compile) -> CompileRequest:
    """The whole `compile` section. Raises QuantbenchError, naming the option, for text that is not of its form."""
    return CompileRequest(section.backend, build_options(section), section.quantization == "implicit", section.log)


def build_options(section: Compile) -> BuildOptions:
    """Build options of a `compile` section; ranges, calibrator and log file are the caller's to add.

    Raises QuantbenchError, naming the option, for text that is not of its form.
    """
    return BuildOptions(
        precisions=precisions(section.precision),
        strongly_typed=section.strongly_typed,
        profiles=tuple(parse_profile(text) for text in section.shapes),
        default_batch=section.batch,
        targets=tuple(name.lower() for name in words(section.target)),
        pools=pools(section.pool),
        timing_cache=section.timing_cache or default_timing_cache(section.backend, section.target),
        tactic_sources=words(section.tactic_sources),
        optimization_level=section.optimization_level,
        refittable=section.refittable,
        version_compatible=section.version_compatible,
        hardware_compatible=section.hardware_compatible.lower(),
        sparsity=section.sparsity,
        dla_core=section.dla_core,
        gpu_fallback=section.gpu_fallback,
        layer_precisions=layer_precisions(section.layer_precision),
        precision_constraints=section.precision_constraints,
        plugins=tuple(library(path, "--plugin") for path in section.plugin),
        serialize_plugins=section.serialize_plugins,
        exclude_lean_runtime=section.exclude_lean_runtime,
        avg_timing=section.avg_timing,
        aux_streams=section.aux_streams,
        build_route=section.build_route,
        forbid_tactics=section.forbid_tactic,
        choose_tactics=chosen_tactics(section.choose),
        replay=existing(section.replay, "--replay") if section.replay is not None else None,
    )


def image_size(text: str) -> int | tuple[int, int]:
    """`"640"`, `"384,640"` or `"384x640"` (height, width). Raises QuantbenchError for text of another form."""
    sides = text.lower().replace("x", ",").split(",")
    if len(sides) > 2 or not all(side.strip().isdigit() and int(side) for side in sides):
        raise QuantbenchError(f"--size {text!r} is neither a side (640) nor HEIGHT,WIDTH (384,640)")
    numbers = [int(side) for side in sides]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def plugin_switches(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`["nms=int8"]` as the switches of the rule for plugins. Raises QuantbenchError for text of another form."""
    found: dict[str, list[str]] = {"int8": [], "int8-tensor": [], "float": []}
    for text in given:
        name, _, precision = text.rpartition("=")
        if not name or precision.lower() not in found:
            raise QuantbenchError(f"--plugin-precision {text!r} is not NAME= and one of {', '.join(found)}")
        found[precision.lower()].append(name)
    return {"plugin_int8": tuple(found["int8"]), "plugin_tensors": tuple(found["int8-tensor"])}


def data_choice(calib_dir: Path | None, inputs: Sequence[str] | None, preprocess: str | None) -> DataChoice:
    """What `--calib-data`, `--input` and `--preprocess` of commands without a recipe for data come to.

    Raises QuantbenchError as `input_paths`.
    """
    named = input_paths(inputs or ())
    return DataChoice(calib_dir, tuple(InputChoice(n, at["path"]) for n, at in named.items()), None, preprocess)


def devices(given: Sequence[str], computes: str = "to calibrate on") -> tuple[str | None, str]:
    """What `--device` names: where to compute (None: not said), and a learnt device to time on ("": none).

    Raises QuantbenchError for two of a kind, and for a name of neither.
    """
    places = [name for name in given if is_place(name)]
    learnt = [name for name in given if not is_place(name)]
    for found, purpose in ((places, computes), (learnt, "to time on")):
        if len(found) > 1:
            raise QuantbenchError(f"--device names {found[0]} and {found[1]}, two {purpose}; give one")
    if learnt and not learnt[0].endswith((".yaml", ".yml")) and not Path(learnt[0]).is_file():
        _require_learnt(learnt[0], computes)
    return (places[0] if places else None), (learnt[0] if learnt else "")


def _require_learnt(name: str, computes: str) -> None:
    from quantbench.latency.device_file import device_names

    known = device_names()
    if name.lower() not in known:
        raise QuantbenchError(
            f"--device {name} is neither cpu, cuda or cuda:1, {computes}, nor a learnt device to time on: "
            f"{', '.join(known)} (quantbench device list), or a .yaml that 'quantbench device learn' wrote"
        )


def input_paths(given: Sequence[str]) -> dict[str, dict[str, Path]]:
    """`["left=DIR"]` as the `inputs` of a recipe; the name ends at the first `=`.

    Raises QuantbenchError for text that is no pair, and for a name that comes twice.
    """
    found: dict[str, dict[str, Path]] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not (sign and name and path):
            raise QuantbenchError(f"--input {text!r} is not NAME=PATH, like --input left=imgs/left")
        if name in found:
            raise QuantbenchError(f"--input names {name!r} twice")
        found[name] = {"path": Path(path)}
    return found
