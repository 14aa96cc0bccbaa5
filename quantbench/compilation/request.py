"""What is asked of a compiler, as a value, and whether this machine can do it; nothing is built here."""

from dataclasses import dataclass, field
from pathlib import Path

from quantbench.engines.base import BuildOptions
from quantbench.engines.build import Chosen, choose_backend
from quantbench.engines.facts import FACTS, ONNXRUNTIME
from quantbench.engines.shapes import InputShapes, complete_profiles
from quantbench.stage import UNKEYED


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """`backend`: auto, a backend's name, or none; `options`: of the build, `implicit`: ranges go to TensorRT 10 and
    older instead of Q/DQ; `log`: another place for the verbose log."""

    backend: str = "auto"
    options: BuildOptions = field(default_factory=BuildOptions)
    implicit: bool = False
    log: Path | None = field(default=None, metadata=UNKEYED)


def check_request(wanted: CompileRequest) -> Chosen | None:
    """The backend that `wanted` comes to, before any image runs; None where there is none to ask.

    `auto` never comes to onnxruntime, which runs the model anyway. Raises QuantbenchError for an option that the
    backend lacks, a target that it does not know, and a backend that was named and is missing.
    """
    if wanted.backend == "none":
        return None
    options = wanted.options
    if wanted.backend == "auto" and choose_backend(BuildOptions(targets=options.targets)).family == ONNXRUNTIME:
        return None
    return choose_backend(options, wanted.backend)


def check_shapes(wanted: CompileRequest, inputs: InputShapes) -> None:
    """Raise QuantbenchError where the profiles of `wanted` do not fit the model's inputs (-1: dynamic)."""
    complete_profiles(inputs, wanted.options.profiles, wanted.options.default_batch)


def missing(wanted: CompileRequest) -> str:
    """Why no compiler is asked, "" where none was wanted."""
    if wanted.backend == "none":
        return ""
    return f"No compiler check: no TensorRT on this machine; {FACTS['tensorrt-rtx'].install}, or see quantbench doctor"
