"""Build an engine with whatever backend was asked for: the one entrance that the commands use."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantbench.engines import network_function, timing_cache
from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.discover import gpu_present, tensorrt_version
from quantbench.engines.facts import FACTS, ONNXRUNTIME, TENSORRT10, TENSORRT11, TENSORRT_RTX
from quantbench.engines.nvtx import ranges
from quantbench.engines.prepare import prepared, with_own_thresholds
from quantbench.engines.refuse import refuse_lacking
from quantbench.errors import QuantbenchError

BACKENDS = ("auto", "tensorrt", "tensorrt-rtx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The backend that a request comes to. `family` is a key of FACTS, `bindings` the imported TensorRT or None."""

    family: str
    version: str
    bindings: Any

    @property
    def title(self) -> str:
        """Name and version for people."""
        return f"{FACTS[self.family].title} {self.version}"


def choose_backend(options: BuildOptions, backend: str = "auto") -> Chosen:
    """What will build for these options; builds nothing, so that a wrong request is refused before hours of work.

    auto takes TensorRT where it is installed beside a GPU and no target is named, else TensorRT-RTX, else
    onnxruntime. Raises QuantbenchError where the backend is missing, lacks an option or does not know a target.
    """
    family, trt = resolve(backend, options)
    version = _version(family, trt)
    refuse_lacking(options, family, version, gpu=gpu_present())
    if family == TENSORRT_RTX:
        from quantbench.engines import tensorrt_rtx

        tensorrt_rtx.check_targets(trt, options.targets)
    return Chosen(family, version, trt)


def build_engine(model: Path, options: BuildOptions, backend: str = "auto") -> BuildResult:
    """Build the ONNX file `model` (or the network that `file.py:function` fills) with `backend` (one of BACKENDS), as
    `choose_backend` understands it.

    `options.timing_cache` is a folder. Raises QuantbenchError where the backend is missing, lacks an option or cannot
    build the model.
    """
    is_function = network_function.is_network_function(model)
    if not is_function and not model.is_file():
        raise QuantbenchError(f"model {model} does not exist")
    chosen = choose_backend(options, backend)
    family, trt = chosen.family, chosen.bindings
    if options.timing_cache is not None:
        from quantbench.engines.device import open_device

        file = timing_cache.cache_file(options.timing_cache, family, chosen.version, open_device().name)
        options = replace(options, timing_cache=file)
    if is_function:
        typed = FACTS[family].typed_by_model
        network_function.check(model, options, chosen.title, typed=typed, from_onnx=family == ONNXRUNTIME)
        return _run(family, trt, model, options)
    if not FACTS[family].typed_by_model and not options.strongly_typed:
        return _run(family, trt, model, with_own_thresholds(model, options))
    with prepared(model, options) as (ready, notes):
        try:
            result = _run(family, trt, ready, options)
        except QuantbenchError as error:
            raise QuantbenchError(str(error).replace(str(ready), str(model))) from error
    return replace(result, notes=(*notes, *result.notes))


def resolve(backend: str, options: BuildOptions) -> tuple[str, Any]:
    """(family, imported bindings or None) for what the user asked; raises QuantbenchError where it is missing."""
    if backend not in BACKENDS:
        raise QuantbenchError(f"--backend {backend} is none of {', '.join(BACKENDS)}")
    if backend == "auto":
        backend = _best(options)
    if backend == "tensorrt":
        trt = _import_tensorrt()
        major = int(trt.__version__.partition(".")[0])
        return (TENSORRT11 if major >= 11 else TENSORRT10), trt
    if backend == "tensorrt-rtx":
        from quantbench.engines import tensorrt_rtx

        return TENSORRT_RTX, tensorrt_rtx.load()
    return ONNXRUNTIME, None


def _best(options: BuildOptions) -> str:
    from quantbench.engines.discover import discover

    there = {found.name for found in discover() if found.available}
    if there & {TENSORRT10, TENSORRT11} and not options.targets:
        return "tensorrt"
    return "tensorrt-rtx" if TENSORRT_RTX in there else "onnxruntime"


def _import_tensorrt() -> Any:
    from quantbench.engines.tensorrt_load import load

    if not tensorrt_version():
        raise QuantbenchError(f"tensorrt is not installed: {FACTS[TENSORRT11].install}; see quantbench doctor")
    if not gpu_present():
        raise QuantbenchError(
            "TensorRT builds on the GPU that will run the engine, and this machine shows none; "
            "--backend tensorrt-rtx builds without one"
        )
    return load()


def _version(family: str, trt: Any) -> str:
    if family == ONNXRUNTIME:
        import onnxruntime

        return str(onnxruntime.__version__)
    return str(trt.__version__)


def _run(family: str, trt: Any, model: Path, options: BuildOptions) -> BuildResult:
    with ranges.stage("build"):
        return replace(_adapter(family, trt, model, options), plugins=options.plugins)


def _adapter(family: str, trt: Any, model: Path, options: BuildOptions) -> BuildResult:
    if family == TENSORRT_RTX:
        from quantbench.engines import tensorrt_rtx

        return tensorrt_rtx.build(model, options)
    if family == TENSORRT11:
        from quantbench.engines import tensorrt11

        return tensorrt11.build(trt, model, options)
    if family == TENSORRT10:
        from quantbench.engines import tensorrt10
        from quantbench.engines.device import open_device

        return tensorrt10.build(trt, model, options, open_device())
    from quantbench.engines import onnxruntime_cpu

    return onnxruntime_cpu.build(model, options)
