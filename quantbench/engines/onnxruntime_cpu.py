"""onnxruntime on the CPU: the optimized model as an "engine", and running arrays to arrays with timing."""

import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.facts import FACTS, ONNXRUNTIME
from quantbench.errors import QuantbenchError
from quantbench.ort import create_session, refusals, session_options

BACKEND = ONNXRUNTIME


@dataclass(frozen=True, slots=True)
class Run:
    """Outputs of every feed, in order, and the milliseconds of each call: float64 [feeds]."""

    outputs: tuple[dict[str, NDArray[Any]], ...]
    milliseconds: NDArray[np.float64]


def build(model: Path, options: BuildOptions) -> BuildResult:
    """The graph as onnxruntime optimizes it for this CPU, as ONNX bytes (model under 2 GB).

    Raises QuantbenchError where onnxruntime is missing or refuses the model.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise QuantbenchError(f"onnxruntime is not installed: {FACTS[BACKEND].install}") from error
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quantbench-") as scratch:
        optimized = Path(scratch) / "optimized.onnx"
        settings = session_options()
        settings.optimized_model_filepath = str(optimized)
        try:
            ort.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
        except refusals() as error:
            raise QuantbenchError(f"onnxruntime cannot build {model}: {str(error).splitlines()[0][:300]}") from error
        engine = optimized.read_bytes()
    return BuildResult(engine, BACKEND, ort.__version__, time.monotonic() - started, log_file=options.log_file)


def run(model: Path, feeds: Iterable[Mapping[str, NDArray[Any]]], *, threads: int = 0, warm_up: int = 1) -> Run:
    """Run every feed once (the first `warm_up` times more before) and time each call.

    Raises QuantbenchError where onnxruntime refuses the model or a feed.
    """
    session = create_session(model, threads=threads)
    refused: tuple[type[Exception], ...] = (*refusals(), ValueError)
    names = [output.name for output in session.get_outputs()]
    outputs, times = [], []
    for index, feed in enumerate(feeds):
        try:
            for _ in range(warm_up if index == 0 else 0):
                session.run(names, dict(feed))
            started = time.perf_counter()
            values = session.run(names, dict(feed))
        except refused as error:
            raise QuantbenchError(
                f"onnxruntime refuses batch {index} for {model}: {str(error).splitlines()[0][:300]}"
            ) from error
        times.append((time.perf_counter() - started) * 1e3)
        outputs.append(dict(zip(names, values, strict=True)))
    return Run(tuple(outputs), np.array(times, np.float64))
