"""Build an engine with whatever backend was asked for: the one entrance that the commands use.

NVIDIA's compilers run in a process of their own (`apart.py`), but for TensorRT 10 with a calibrator: the compiler calls
that, an object of the user's with data, in the middle of its work, so it must be where the object is.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantbench.engines import network_function, timing_cache
from quantbench.engines.adapter import build_here
from quantbench.engines.apart import Apart, Job
from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.discover import gpu_present, rtx_version, tensorrt_version
from quantbench.engines.facts import FACTS, ONNXRUNTIME, TENSORRT10, TENSORRT11, TENSORRT_RTX
from quantbench.engines.nvtx import ranges
from quantbench.engines.prepare import prepared, with_own_thresholds
from quantbench.engines.refuse import refuse_lacking
from quantbench.engines.refuse_broken import refuse_broken_file
from quantbench.errors import QuantbenchError

BACKENDS = ("auto", "tensorrt", "tensorrt-rtx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The backend that a request comes to; `family` is a key of FACTS."""

    family: str
    version: str

    @property
    def title(self) -> str:
        """Name and version for people."""
        return f"{FACTS[self.family].title} {self.version}"


def choose_backend(options: BuildOptions, backend: str = "auto") -> Chosen:
    """What will build for these options; builds nothing, so that a wrong request is refused before hours of work.

    auto takes TensorRT where it is installed beside a GPU and no target is named, else TensorRT-RTX, else
    onnxruntime. Raises QuantbenchError where the backend is missing, lacks an option or does not know a target.
    """
    chosen = resolve(backend, options)
    refuse_lacking(options, chosen.family, chosen.version, gpu=gpu_present())
    if chosen.family == TENSORRT_RTX and options.targets:
        from quantbench.engines import tensorrt_rtx

        if options.targets != tensorrt_rtx.DEFAULT_TARGETS:  # which every wheel knows; loading it takes 0.1 s
            tensorrt_rtx.check_targets(tensorrt_rtx.load(), options.targets)
    return chosen


def build_engine(model: Path, options: BuildOptions, backend: str = "auto", *, checked: bool = False) -> BuildResult:
    """The engine that `start_engine` starts, when it is done."""
    with start_engine(model, options, backend, checked=checked) as building:
        return building.result()


class Building:
    """An engine that is being built, beside this process where NVIDIA's compiler builds it (other backends begin when
    the result is asked for); a context manager, whose end drops what is not done."""

    def __init__(self, started: ExitStack, finish: Callable[[], BuildResult]) -> None:
        self._started, self._finish = started, finish

    def __enter__(self) -> "Building":
        return self

    def __exit__(self, *error: object) -> None:
        self._started.close()

    def result(self) -> BuildResult:
        """Wait for the engine. Raises QuantbenchError where the backend cannot build the model, or dies of it."""
        with ranges.stage("build"):
            return self._finish()


def start_engine(model: Path, options: BuildOptions, backend: str = "auto", *, checked: bool = False) -> Building:
    """Begin to build the ONNX file `model` (or the network that `file.py:function` fills) with `backend` (one of
    BACKENDS), as `choose_backend` understands it.

    `options.timing_cache` is a folder. `checked`: the file is none that `refuse_broken` refuses. Raises QuantbenchError
    where the backend is missing or lacks an option, the file is broken, or cannot get what the precisions need.
    """
    is_function = network_function.is_network_function(model)
    if not is_function and not model.is_file():
        raise QuantbenchError(f"model {model} does not exist")
    chosen = choose_backend(options, backend)
    family = chosen.family
    if options.timing_cache is not None:
        from quantbench.engines.device import open_device

        file = timing_cache.cache_file(options.timing_cache, family, chosen.version, open_device().name)
        options = replace(options, timing_cache=file)
    notes: tuple[str, ...] = ()
    ready = model
    with ExitStack() as stack:
        if is_function:
            typed = FACTS[family].typed_by_model
            network_function.check(model, options, chosen.title, typed=typed, from_onnx=family == ONNXRUNTIME)
        else:
            if family != ONNXRUNTIME and not checked:
                refuse_broken_file(model)
            if not FACTS[family].typed_by_model and not options.strongly_typed:
                options = with_own_thresholds(model, options)
            else:
                ready, notes = stack.enter_context(prepared(model, options))
                options = options if FACTS[family].has_calibrators else replace(options, ranges=None, calibrator=None)
        build = _begun(chosen, ready, options, stack)

        def finish() -> BuildResult:
            try:
                result = build()
            except QuantbenchError as error:
                raise QuantbenchError(str(error).replace(str(ready), str(model))) from error
            return replace(result, notes=(*notes, *result.notes), plugins=options.plugins)

        return Building(stack.pop_all(), finish)


def resolve(backend: str, options: BuildOptions) -> Chosen:
    """What the user asked for; raises QuantbenchError where it is missing. TensorRT-RTX is not imported for it."""
    if backend not in BACKENDS:
        raise QuantbenchError(f"--backend {backend} is none of {', '.join(BACKENDS)}")
    if backend == "auto":
        backend = _best(options)
    if backend == "tensorrt":
        version = str(_import_tensorrt().__version__)
        return Chosen(TENSORRT11 if int(version.partition(".")[0]) >= 11 else TENSORRT10, version)
    if backend == "tensorrt-rtx":
        version = rtx_version()
        if version in ("", "unknown"):
            from quantbench.engines import tensorrt_rtx

            version = str(tensorrt_rtx.load().__version__)
        return Chosen(TENSORRT_RTX, version)
    import onnxruntime

    return Chosen(ONNXRUNTIME, str(onnxruntime.__version__))


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


def builds_apart(family: str, options: BuildOptions) -> bool:
    """Whether a process of its own builds: not where a Python object of the user's takes part, nor in a program that is
    no Python to start again."""
    if family == ONNXRUNTIME or options.calibrator is not None:
        return False
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def _begun(chosen: Chosen, model: Path, options: BuildOptions, stack: ExitStack) -> Callable[[], BuildResult]:
    """What waits for the build; `stack` ends it."""
    if builds_apart(chosen.family, options):
        return stack.enter_context(Apart(Job(chosen.family, chosen.title, model, options))).result
    return lambda: build_here(chosen.family, model, options)
