"""The options that `build`, `ptq` and `qat-export` share: how the engine is built."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quantbench.cli.options import option
from quantbench.errors import QuantbenchError


def _build(help: str, metavar: str | None = None) -> Any:
    return option(help=help, metavar=metavar, rich_help_panel="Engine build")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Fields of the recipe's `compile` section; one that is not given leaves what the recipe says."""

    backend: str | None = _build("auto, tensorrt, tensorrt-rtx, onnxruntime; ptq and qat-export: none as well.", "NAME")
    target: str | None = _build("GPU families for tensorrt-rtx, with commas: sm80,sm86,sm89,sm120.", "NAMES")
    precision: list[str] | None = _build("fp32, tf32, fp16, bf16, int8, best; several with commas.", "NAMES")
    shapes: list[str] | None = _build(
        "One profile: x=1x3x224x224:8x3x224x224:32x3x224x224, more inputs by comma.", "SHAPES"
    )
    batch: int | None = _build("Size of a dynamic batch that --shapes does not name.", "N")
    pool: list[str] | None = _build("Memory pool, e.g. workspace=4G or dla_managed_sram=1M.", "NAME=SIZE")
    timing_cache: Path | None = _build("Folder of timing caches; TensorRT only. (default: ~/.cache/quantbench/timing)")
    tactic_sources: str | None = _build("As trtexec: +NAME,-NAME.", "NAMES")
    optimization_level: int | None = _build("Builder optimization level, 0 to 5.", "N")
    refittable: bool | None = _build("Weights can be changed later.")
    version_compatible: bool | None = _build("Runs on later versions as well.")
    hardware_compatible: str | None = _build("ampere_plus or same_compute_capability.", "NAME")
    sparsity: bool | None = _build("Use 2:4 sparse kernels where weights allow.")
    dla_core: int | None = _build("Build for this DLA core.", "N")
    gpu_fallback: bool | None = _build("Layers that the DLA lacks run on the GPU.")
    layer_precision: list[str] | None = _build("PATTERN=PRECISION by layer name; the last match wins.", "PAIR")
    precision_constraints: str | None = _build("none, prefer or obey; goes with --layer-precision.", "NAME")
    strongly_typed: bool | None = _build("Types from the ONNX alone.")
    weakly_typed: bool | None = _build("The builder chooses types; TensorRT 10 and older.")
    plugin: list[Path] | None = _build("Library of plugins, loaded before the model is read; once for each.", "LIB.so")
    serialize_plugins: bool | None = _build("Put the libraries of --plugin into the engine.")
    exclude_lean_runtime: bool | None = _build("Leave the lean runtime out of a version-compatible engine.")
    avg_timing: int | None = _build("Time each kernel N times for one figure.", "N")
    aux_streams: int | None = _build("Streams that the engine may use beside its own.", "N")
    build_route: str | None = _build("Route of TensorRT 11.1's performance tuner.", "ROUTE")
    forbid_tactic: list[str] | None = _build("Kernels not to choose: 0x… or, with --replay, names.", "PATTERN")
    choose: list[str] | None = _build("The kernel of a layer; quantbench tactics lists them.", "LAYER=TACTIC")
    replay: Path | None = _build("Take the kernels of this build log (or timing cache) again.", "FILE")
    log: Path | None = _build("File for the verbose build log. (default: beside the engine)")

    def changes(self) -> dict[str, object]:
        """For `Recipe.merged`, keyed `compile.NAME`. Raises QuantbenchError where two options contradict each other."""
        given = asdict(self)
        if given.pop("weakly_typed"):
            if self.strongly_typed:
                raise QuantbenchError("--strongly-typed and --weakly-typed contradict each other; give one")
            given["strongly_typed"] = False
        fields = {name: _as_field(name, value) for name, value in given.items()}
        return {f"compile.{name}": value for name, value in fields.items() if value is not None}


def _as_field(name: str, value: object) -> object:
    """What the recipe's field holds; None where nothing was given."""
    if isinstance(value, list | tuple):
        return (",".join(value) if name == "precision" else tuple(value)) if value else None
    return value
