"""Schema of a recipe (YAML): everything a run needs, validated before anything starts."""

import difflib
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from quantbench import limits
from quantbench.errors import QuantbenchError
from quantbench.load_object import names_code
from quantbench.yaml_file import read_yaml


def _word(value: object) -> object:
    """`on` and `off` as they were written: YAML 1.1 reads both as booleans."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_word)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Section):
    """How to build the torch module that a checkpoint belongs to."""

    factory: str = Field(description="`package.module:callable` or `path/to/file.py:callable` that returns the module")
    arguments: dict[str, Any] = Field(default_factory=dict)
    input_shape: tuple[int, ...] = Field(description="shape of one image, for example [3, 224, 224]")


class Input(_Section):
    """Data of one input: a folder of images with its own preprocessing, or arrays."""

    path: Path
    preprocess: str | dict[str, Any] | None = None


class Data(_Section):
    """Calibration data: a folder of images, arrays (.npy, .npz or folders of them), tar shards, file.py:name of a
    data loader or generator, a named data set, or for models of several inputs one path for each of `inputs`
    (docs/data.md)."""

    calib_dir: Path | None = None
    inputs: dict[str, Input] = Field(default_factory=dict)
    dataset: str | None = None
    preprocess: str | dict[str, Any] | None = None
    max_images: int = Field(default=512, ge=1)
    max_bad: int = Field(default=0, ge=0)


class Evaluation(_Section):
    """Images to compare FP32 and INT8 on; the calibration images themselves when none are named. `labels` of `dir`:
    none, folder, file-name (the digits at its end), yolo (boxes in labels/….txt beside images/), csv=FILE (image,
    label), coco=FILE, masks (masks/….png beside images/), cls (.cls, .txt or .json in tar
    shards). `classes`: names in the order of their numbers, one a line, or the training folder; by default those in the
    model's metadata."""

    dir: Path | None = None
    dataset: str | None = None
    labels: str = "none"
    classes: Path | None = None
    max_images: int = Field(default=1024, ge=1)
    latency: bool = True


class Calibration(_Section):
    """`calibrator`: a name (`quantbench recipes`, calibrators/), auto (mse over the samples with signal, or
    minmax, judged by the outputs; qat-export takes mse) or `path/to/file.py:Class`. Weights of `ptq`:
    `weight_scales` a channel from the largest magnitude or of the least squared error; `rounding` each to the nearest,
    or in the worst layers for the layer's output. `effort` full: biases corrected in more sweeps, and adaptive rounding
    where the outputs are nearer for it, unless `rounding` says otherwise. `equalize`, `smooth`: cross-layer
    equalization and SmoothQuant, where the outputs are nearer for them (auto), wherever they can (on), or off. `device`
    that `ptq` counts on: cpu, cuda or cuda:N."""

    calibrator: str = "auto"
    device: str = "cpu"
    batch_size: int = Field(default=8, ge=1)
    bias_correction: bool = True
    weight_scales: Literal["max", "mse"] = "max"
    rounding: Literal["nearest", "adaptive"] | None = None
    effort: Literal["fast", "full"] = "fast"
    equalize: Switch = "auto"
    smooth: Switch = "auto"


class Placement(_Section):
    """Switches of the Q/DQ placement rules (quantbench/qdq/options.py). `method`: the rules as they are, or the best
    of their variants by the predictor's bytes (quantbench/predict/best.py). `tensorrt`, `gpu`: which version and GPU
    the predictor speaks of ("10.9", "sm87"; none: the best known version, any GPU before Blackwell). `device`: a learnt
    device (`quantbench device list`) on which the report times the network, and `best` makes its ms least.
    `plugin_precision`: NAME=int8 (or int8-tensor) of plugins that take INT8."""

    method: Literal["rules", "best"] = "rules"
    tensorrt: str = ""
    gpu: str = ""
    device: str = ""
    residual: bool = True
    residual_db: float = Field(default=15.0, ge=0)
    add_both: bool = False
    for_onnxruntime: bool = False
    pooling: bool = True
    share_concat: bool = True
    share_movers: bool = True
    head_float: bool = True
    log_float: bool = True
    squeeze_float: bool = True
    tiny_channels: int = Field(default=8, ge=0)
    tiny_anywhere: bool = False
    matmul: bool = False
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    plugin_precision: tuple[str, ...] = ()


class Compile(_Section):
    """The engine: the options of `quantbench build`, in its words (docs/engines.md says which version has which).

    `precision`: of what stays float, several with commas; none is fp16 on a GPU. `quantization`: Q/DQ in the model
    (explicit), or ranges handed to TensorRT 10 and older (implicit). `batch`: of a dynamic batch that `shapes` does not
    name. `timing_cache`: a folder.
    """

    backend: Literal["auto", "tensorrt", "tensorrt-rtx", "onnxruntime", "none"] = "auto"
    quantization: Literal["explicit", "implicit"] = "explicit"
    target: str = ""
    precision: str = ""
    batch: int = Field(default=1, ge=1)
    shapes: tuple[str, ...] = ()
    pool: tuple[str, ...] = ()
    timing_cache: Path | None = None
    tactic_sources: str = ""
    optimization_level: int | None = Field(default=None, ge=0, le=5)
    refittable: bool = False
    version_compatible: bool = False
    hardware_compatible: str = ""
    sparsity: bool = False
    dla_core: int | None = Field(default=None, ge=0)
    gpu_fallback: bool = False
    layer_precision: tuple[str, ...] = ()
    precision_constraints: Literal["none", "prefer", "obey"] = "none"
    strongly_typed: bool | None = None
    plugin: tuple[Path, ...] = ()
    serialize_plugins: bool = False
    exclude_lean_runtime: bool = False
    avg_timing: int | None = Field(default=None, ge=1)
    aux_streams: int | None = Field(default=None, ge=0)
    build_route: str = ""
    forbid_tactic: tuple[str, ...] = ()
    choose: tuple[str, ...] = ()
    replay: Path | None = None
    log: Path | None = None


class Training(_Section):
    """Fine-tuning of `quantbench qat-export` (quantbench/qat/options.py). `data`: YOLO data.yaml, or a folder with
    train/ and val/ of class folders."""

    data: Path | None = None
    epochs: int = Field(default=0, ge=0)
    batch: int = Field(default=32, ge=1)
    rate: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    freeze_after: float = Field(default=0.5, ge=0, le=1)
    distill: float = Field(default=0.0, ge=0)
    patience: int = Field(default=10, ge=1)
    amp: Literal["bf16", "fp16", "off"] = "bf16"
    clip: float = Field(default=10.0, gt=0)
    learned_scales: bool = False
    workers: int = Field(default=2, ge=0)


class Export(_Section):
    """ONNX export of `quantbench qat-export`. `size`: side of the square input, or [height, width]."""

    exporter: Literal["dynamo", "legacy"] = "dynamo"
    opset: int | None = None
    size: int | tuple[int, int] | None = None
    dynamic_batch: bool = False
    int8_weights: bool = False


class Recipe(_Section):
    """A whole run. Paths are relative to the folder that the command runs in."""

    name: str = ""
    description: str = ""
    model: str | None = None
    architecture: Architecture | None = None
    data: Data = Data()
    evaluation: Evaluation = Evaluation()
    calibration: Calibration = Calibration()
    placement: Placement = Placement()
    compile: Compile = Compile()
    weights: Path | None = None
    training: Training = Training()
    export: Export = Export()
    threads: int = Field(default=0, ge=0, le=limits.THREADS)
    seed: int = 0
    out: Path | None = None

    def merged(self, changes: Mapping[str, Any]) -> "Recipe":
        """This recipe with `changes`, a mapping of dotted keys (`data.calib_dir`) to values; None changes nothing.

        Raises QuantbenchError for a key or value that no recipe has."""
        data = self.model_dump()
        for key, value in changes.items():
            if value is None:
                continue
            *sections, last = key.split(".")
            place = data
            for section in sections:
                if not isinstance(place.get(section), dict):
                    raise QuantbenchError(f"command line: key {key!r}: a recipe has no {section!r} to change it in")
                place = place[section]
            place[last] = value
        return validated(data, "command line")


def load_recipe(path: Path, changes: Mapping[str, Any] | None = None, *, trust: bool = False) -> Recipe:
    """The recipe at `path`, merged with `changes` of the command line (see `Recipe.merged`).

    A recipe is data: code that it names, and that no change replaces, is refused unless the user says `trust`. Raises
    QuantbenchError, one line, for that and for anything else wrong with it.
    """
    data = read_yaml(path, "recipe")
    if not isinstance(data, dict):
        raise QuantbenchError(f"recipe {path} is not a mapping of keys to values")
    own, given = validated(data, f"recipe {path}"), changes or {}
    for key, code in named_code(own).items():
        if not trust and given.get(key) is None:
            raise QuantbenchError(
                f"recipe {path} names code to run ({key}: {reprlib.repr(code)}), and a recipe is data; if you trust "
                f"that code, give --trust"
            )
    return own.merged(given) if given else own


def named_code(recipe: Recipe) -> dict[str, str]:
    """What `recipe` names that would be imported, called or linked, by its dotted key. What quantbench ships by name
    is not among it."""
    from quantbench.calibration.thresholds import METHODS

    data, evaluation, calibrator = recipe.data, recipe.evaluation, recipe.calibration.calibrator
    found = {
        "architecture": recipe.architecture.factory if recipe.architecture is not None else "",
        "calibration.calibrator": ""
        if calibrator.partition(":")[0] in METHODS or ":" not in calibrator
        else calibrator,
        "compile.plugin": ", ".join(map(str, recipe.compile.plugin)),
        "model": recipe.model if names_code(recipe.model or "") else "",
    }
    for section, folder, dataset in (
        ("data", data.calib_dir, data.dataset), ("evaluation", evaluation.dir, evaluation.dataset),
    ):  # fmt: skip
        found[f"{section}.{'calib_dir' if section == 'data' else 'dir'}"] = (
            str(folder) if names_code(str(folder)) else ""
        )
        found[f"{section}.dataset"] = (dataset or "") if ".py" in (dataset or "") else ""
    return {key: code for key, code in found.items() if code}


def validated(data: Mapping[str, Any], source: str) -> Recipe:
    """`data` as a Recipe. Raises QuantbenchError naming the key, with the nearest known one for a typo."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise QuantbenchError(f"{source}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] != "extra_forbidden":
        return f"{key} = {_shown(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}"
    known = _keys_of(path[:-1])
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {key!r}; {hint}"


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no integer of over 4300 digits
        return "a number of thousands of digits"


def _keys_of(path: list[str]) -> list[str]:
    section: type[BaseModel] = Recipe
    for name in path:
        annotation = section.model_fields[name].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        found = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if found is None:
            return []
        section = found
    return list(section.model_fields)
