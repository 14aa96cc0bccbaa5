"""Time a file on what can run it: engines on the GPU, ONNX in onnxruntime on the CPU; inputs are seeded noise."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantbench.engines.bench_inputs import array_shape, noise, read_input
from quantbench.engines.nvtx import ranges
from quantbench.engines.shapes import Shape, spelled
from quantbench.engines.timings import Timings, as_trtexec, images_of
from quantbench.errors import QuantbenchError
from quantbench.json_types import JsonObject

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
    contexts: int = 1
    """Callers at the same time, each in a thread of its own (and with a context, on a GPU)."""
    spin_wait: bool = False
    profile_index: int | None = None
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Files by input name, see `bench_inputs.read_input`; inputs without one get noise."""
    preprocess: str | None = None
    """Preset for pictures."""
    times: Path | None = None
    """Where the time of every call goes, in the form of `trtexec --exportTimes`."""
    plugins: tuple[Path, ...] = ()
    runtime: str = "full"


@dataclass(frozen=True, slots=True)
class Benched:
    """What ran (`shapes` by input name), on what, and how long each call took."""

    model: str
    backend: str
    shapes: Mapping[str, Shape]
    timings: Timings

    def to_json(self) -> JsonObject:
        """Summary as `Timings.to_json` gives it, with model, backend and shapes."""
        return {"model": self.model, "backend": self.backend, "shapes": self.shapes, **self.timings.to_json()}


def bench_model(path: Path, request: BenchRequest) -> Benched:
    """Time the model or engine at `path`.

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


_GPU_ONLY = (
    "--streams, --cuda-graph, --no-transfers, --profile, --profile-index, --spin-wait, --plugin, --runtime and "
    "--host-code"
)


def _onnx(path: Path, request: BenchRequest) -> Benched:
    from quantbench.ort import create_session, refusals

    wanted = (
        request.streams > 1, request.cuda_graph, request.profile, request.host_code, not request.transfers,
        request.spin_wait, request.profile_index is not None, request.plugins, request.runtime != "full",
    )  # fmt: skip
    if any(wanted):
        raise QuantbenchError(f"{_GPU_ONLY} are for engines on a GPU")
    session = create_session(path, threads=request.threads)
    given = _given_shapes(request)
    feed = {}
    for value in session.get_inputs():
        # A dimension without a number is a name or None.
        known = tuple(d if isinstance(d, int) else -1 for d in value.shape)
        feed[value.name] = _input(value.name, _shape(value.name, known, given), _dtype(value.name, value.type), request)
    _refuse_unknown(request, feed)

    def call() -> float:
        before = time.perf_counter()
        session.run(None, feed)
        return before

    warm = time.perf_counter() + request.warm_up_seconds
    try:
        call()
    except refusals() as error:
        raise QuantbenchError(f"onnxruntime refuses to run {path}: {str(error).splitlines()[0][:300]}") from error
    while time.perf_counter() < warm:
        call()
    start = time.perf_counter()
    with ranges.stage("measurement"):
        if request.contexts > 1:
            with ThreadPoolExecutor(request.contexts) as pool:
                shares = [pool.submit(_drive, call, request, start) for _ in range(request.contexts)]
                times = [pair for share in shares for pair in share.result()]
        else:
            times = _drive(call, request, start)
    wall = time.perf_counter() - start
    began, took = np.array(times, np.float64).T
    timings = Timings(took, None, None, None, wall, images_of(feed), began)
    return _summary(path, "onnxruntime", feed, timings, request)


def _drive(call: Callable[[], float], request: BenchRequest, start: float) -> list[tuple[float, float]]:
    """(ms since the start, ms) of each call, until there are enough and time is up."""
    least = -(-request.least_calls // request.contexts)
    times: list[tuple[float, float]] = []
    while len(times) < least or time.perf_counter() - start < request.seconds:
        before = call()
        times.append(((before - start) * 1e3, (time.perf_counter() - before) * 1e3))
    return times


def _given_shapes(request: BenchRequest) -> dict[str, Shape]:
    """What --shapes says, and what the array files hold that --shapes does not name."""
    held = {name: array_shape(file) for name, file in request.inputs.items()}
    return {**{name: shape for name, shape in held.items() if shape is not None}, **request.shapes}


def _input(name: str, shape: Shape, dtype: np.dtype[Any], request: BenchRequest) -> NDArray[Any]:
    file = request.inputs.get(name)
    return noise(shape, dtype) if file is None else read_input(name, file, shape, dtype, request.preprocess)


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
    for name in shapes:
        if name not in feed:
            raise QuantbenchError(f"--shapes names input {name!r}, but the model's inputs are {', '.join(feed)}")
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


def _engine(path: Path, request: BenchRequest) -> Benched:
    if request.threads:
        raise QuantbenchError("--threads is for ONNX files, which run on the CPU")
    from quantbench.atomic import write_json
    from quantbench.engines.load_engine import load_engine
    from quantbench.engines.tensorrt_bench import BenchOptions, bench
    from quantbench.engines.tensorrt_profile import profile

    if request.streams > 1 and request.contexts > 1:
        raise QuantbenchError("--streams N feeds N contexts from one thread, --contexts N each from its own; give one")
    loaded = load_engine(path, host_code=request.host_code, plugins=request.plugins, runtime=request.runtime)
    given = _given_shapes(request)
    feed = {}
    for name in loaded.inputs:
        shape = tuple(given.get(name) or loaded.opt_shape(name, request.profile_index or 0))
        feed[name] = _input(name, shape, loaded.dtype(name), request)
    _refuse_unknown(request, feed)
    options = BenchOptions(
        request.warm_up_seconds, request.seconds, request.least_calls, request.streams, request.cuda_graph,
        request.transfers, request.contexts, request.spin_wait, request.profile_index,
    )  # fmt: skip
    timings = bench(loaded, feed, options)
    if request.profile is not None:
        write_json(request.profile, profile(loaded, feed))
    return _summary(path, f"{loaded.title} on {loaded.device.name}", feed, timings, request)


def _refuse_unknown(request: BenchRequest, feed: Mapping[str, NDArray[Any]]) -> None:
    for option, names in (("--shapes", request.shapes), ("--input", request.inputs)):
        for name in names:
            if name not in feed:
                raise QuantbenchError(f"{option} names input {name!r}, but the model's inputs are {', '.join(feed)}")


def _summary(
    path: Path, backend: str, feed: Mapping[str, NDArray[Any]], timings: Timings, request: BenchRequest
) -> Benched:
    if request.times is not None:
        from quantbench.atomic import write_json

        write_json(request.times, as_trtexec(timings))
    return Benched(str(path), backend, {name: array.shape for name, array in feed.items()}, timings)
