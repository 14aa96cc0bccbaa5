"""Time a file on what can run it: engines on the GPU, ONNX in onnxruntime on the CPU; inputs are seeded noise."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantbench.engines.shapes import Shape, spelled
from quantbench.engines.timings import Timings, images_of
from quantbench.errors import QuantbenchError

if TYPE_CHECKING:
    import onnxruntime

_ORT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
              "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(uint8)": "uint8", "tensor(int8)": "int8",
              "tensor(bool)": "bool"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What `quantbench bench` is asked; `shapes` are whole shapes by input name."""

    shapes: Mapping[str, Shape]
    seconds: float = 3.0
    least_calls: int = 10
    warm_up_seconds: float = 0.2
    threads: int = 0
    streams: int = 1
    cuda_graph: bool = False
    transfers: bool = True
    profile: Path | None = None
    host_code: bool = False


def bench_model(path: Path, request: BenchRequest) -> dict[str, Any]:
    """Summary as `Timings.to_json` gives it, with backend and shapes.

    Raises QuantbenchError for a missing file, options of the other kind of file, inputs that do not fit.
    """
    if not path.is_file():
        raise QuantbenchError(f"{path} is a folder, not a model" if path.is_dir() else f"{path} does not exist")
    for name, shape in request.shapes.items():
        if 0 in shape:
            raise QuantbenchError(f"--shapes {name}={spelled(shape)} holds a zero: nothing to time")
    return _onnx(path, request) if path.suffix == ".onnx" else _engine(path, request)


def check_backend(path: Path, backend: str) -> None:
    """Raise QuantbenchError where `backend` (auto, onnxruntime, tensorrt, tensorrt-rtx) does not run such a file."""
    if backend not in ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx"):
        raise QuantbenchError(f"--backend {backend} is none of auto, onnxruntime, tensorrt, tensorrt-rtx")
    is_onnx = path.suffix == ".onnx"
    if backend == "onnxruntime" and not is_onnx:
        raise QuantbenchError(f"--backend onnxruntime runs .onnx files, and {path} is none")
    if backend.startswith("tensorrt") and is_onnx:
        raise QuantbenchError(
            f"--backend {backend} runs engines: quantbench build {path} --backend {backend}, then bench the engine"
        )


def noise(shape: Shape, dtype: np.dtype[Any], seed: int = 0) -> NDArray[Any]:
    """Seeded inputs: normal for floats, 0 to 99 for integers, both truths for booleans."""
    random = np.random.default_rng(seed)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)


def _onnx(path: Path, request: BenchRequest) -> dict[str, Any]:
    from quantbench.ort import create_session, refusals

    if request.streams > 1 or request.cuda_graph or request.profile or request.host_code or not request.transfers:
        raise QuantbenchError(
            "--streams, --cuda-graph, --no-transfers, --profile and --host-code are for engines on a GPU"
        )
    session = create_session(path, threads=request.threads)
    feed = ort_feed(session, request.shapes)
    warm = time.perf_counter() + request.warm_up_seconds
    try:
        session.run(None, feed)
    except refusals() as error:
        raise QuantbenchError(f"onnxruntime refuses to run {path}: {str(error).splitlines()[0][:300]}") from error
    while time.perf_counter() < warm:
        session.run(None, feed)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < request.least_calls or time.perf_counter() - start < request.seconds:
        before = time.perf_counter()
        session.run(None, feed)
        times.append((time.perf_counter() - before) * 1e3)
    wall = time.perf_counter() - start
    timings = Timings(np.array(times, np.float64), None, None, None, wall, images_of(feed))
    return _summary(path, "onnxruntime", feed, timings)


def ort_feed(
    session: "onnxruntime.InferenceSession", shapes: Mapping[str, Shape], batch: int = 1
) -> dict[str, NDArray[Any]]:
    """Noise for every input; a dynamic first dimension that `shapes` does not name is `batch`.

    Raises QuantbenchError for shapes that do not fit the model.
    """
    feed = {}
    for value in session.get_inputs():
        # A dimension without a number is a name or None.
        known = tuple(d if isinstance(d, int) else -1 for d in value.shape)
        if batch != 1 and known and known[0] not in (-1, batch):
            raise QuantbenchError(f"input {value.name} has a fixed batch of {known[0]}, so no batch of {batch}")
        feed[value.name] = noise(_shape(value.name, known, shapes, batch), _dtype(value.name, value.type))
    _refuse_unknown(shapes, feed)
    return feed


def _shape(name: str, known: Shape, given: Mapping[str, Shape], batch: int = 1) -> Shape:
    """The shape that is asked for, else the model's at `batch`; raises QuantbenchError where it does not fit."""
    if name not in given:
        shape = tuple(batch if d < 0 and index == 0 else d for index, d in enumerate(known))
        if -1 in shape:
            raise QuantbenchError(f"input {name} has shape {spelled(known)}: give --shapes {name}=…")
        return shape
    shape = given[name]
    if len(shape) != len(known) or any(k not in (-1, d) for k, d in zip(known, shape, strict=True)):
        raise QuantbenchError(f"--shapes gives {name} as {spelled(shape)}, but the model has {spelled(known)}")
    return shape


def _dtype(name: str, kind: str) -> np.dtype[Any]:
    if kind not in _ORT_TYPES:
        raise QuantbenchError(f"input {name} is {kind}, which bench cannot make up")
    return np.dtype(_ORT_TYPES[kind])


def _engine(path: Path, request: BenchRequest) -> dict[str, Any]:
    if request.threads:
        raise QuantbenchError("--threads is for ONNX files, which run on the CPU")
    from quantbench.atomic import write_json
    from quantbench.engines.load_engine import load_engine
    from quantbench.engines.tensorrt_bench import BenchOptions, bench
    from quantbench.engines.tensorrt_profile import profile

    loaded = load_engine(path, host_code=request.host_code)
    feed = {
        name: noise(tuple(request.shapes.get(name) or loaded.opt_shape(name)), loaded.dtype(name))
        for name in loaded.inputs
    }
    _refuse_unknown(request.shapes, feed)
    options = BenchOptions(
        request.warm_up_seconds, request.seconds, request.least_calls, request.streams, request.cuda_graph,
        request.transfers,
    )  # fmt: skip
    timings = bench(loaded, feed, options)
    if request.profile is not None:
        write_json(request.profile, profile(loaded, feed))
    return _summary(path, f"{loaded.title} on {loaded.device.name}", feed, timings)


def _refuse_unknown(shapes: Mapping[str, Shape], feed: Mapping[str, NDArray[Any]]) -> None:
    for name in shapes:
        if name not in feed:
            raise QuantbenchError(f"--shapes names input {name!r}, but the model's inputs are {', '.join(feed)}")


def _summary(path: Path, backend: str, feed: Mapping[str, NDArray[Any]], timings: Timings) -> dict[str, Any]:
    shapes = {name: list(array.shape) for name, array in feed.items()}
    return {"model": str(path), "backend": backend, "shapes": shapes, **timings.to_json()}
