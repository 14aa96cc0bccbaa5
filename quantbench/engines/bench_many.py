"""Several models, interleaved round by round, so that a clock or a neighbour that changes hits all alike; two are
ranked only where their paired rounds say so."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.engines.bench_inputs import noise
from quantbench.engines.bench_model import ort_feed
from quantbench.engines.shapes import Shape
from quantbench.errors import QuantbenchError

Call = Callable[[], float]
Feed = Mapping[str, NDArray[Any]]
# Warm-up ends when a window of calls is no more than this faster than the window before it.
_STEADY, _WINDOW, _MOST_WARM = 0.02, 5, 60


@dataclass(frozen=True, slots=True)
class ManyRequest:
    """What is compared: `seconds` for each batch size in all, at least `least_rounds` rounds; `shapes` by input name
    (without them a dynamic first dimension is the batch size); `images`: real inputs by name, [N, ...]."""

    batches: tuple[int, ...] = (1,)
    seconds: float = 6.0
    least_rounds: int = 20
    threads: int = 0
    shapes: Mapping[str, Shape] | None = None
    images: Feed | None = None


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model's figures at one batch size, in ms a call: median with its 95 % interval, p90, rounds, warm-up calls."""

    model: str
    backend: str
    batch: int
    median: float
    low: float
    high: float
    p90: float
    rounds: int
    warm_up: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """How many times faster `faster` is than `slower`, with a 95 % interval over paired rounds; `parted`: whether the
    interval leaves out 1."""

    batch: int
    faster: str
    slower: str
    ratio: float
    low: float
    high: float

    @property
    def parted(self) -> bool:
        """Whether the two may be ranked."""
        return self.low > 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """All contestants, and every pair of one batch size."""

    contestants: tuple[Contestant, ...]
    rankings: tuple[Ranking, ...]


def bench_many(paths: Sequence[Path], names: Sequence[str], request: ManyRequest) -> Comparison:
    """Time all models at each batch size. Raises QuantbenchError for what does not run or does not take a batch."""
    contestants: list[Contestant] = []
    rankings: list[Ranking] = []
    for batch in request.batches:
        calls = [_call(path, batch, request) for path in paths]
        warm = [_warm_up(call) for call, _ in calls]
        times = np.array(_rounds([call for call, _ in calls], request))
        for column, name in enumerate(names):
            contestants.append(_figures(name, calls[column][1], batch, times[:, column], warm[column]))
        rankings += [_rank(batch, (names[i], times[:, i]), (names[j], times[:, j]))
                     for i, j in combinations(range(len(paths)), 2)]  # fmt: skip
    return Comparison(tuple(contestants), tuple(rankings))


def _rounds(calls: Sequence[Call], request: ManyRequest) -> list[list[float]]:
    """Milliseconds [rounds][models]; the order turns by one each round, so that nobody always follows the slowest."""
    found: list[list[float]] = []
    end = time.perf_counter() + request.seconds
    while len(found) < request.least_rounds or time.perf_counter() < end:
        row = [0.0] * len(calls)
        for step in range(len(calls)):
            which = (step + len(found)) % len(calls)
            row[which] = calls[which]()
        found.append(row)
    return found


def _warm_up(call: Call) -> int:
    """Call until it gets no faster; how many calls that took."""
    before = math.inf
    for done in range(_WINDOW, _MOST_WARM + 1, _WINDOW):
        now = float(np.median([call() for _ in range(_WINDOW)]))
        if now > before * (1 - _STEADY):
            return done
        before = now
    return _MOST_WARM


def _figures(name: str, backend: str, batch: int, ms: NDArray[np.float64], warm: int) -> Contestant:
    low, high = median_interval(ms)
    return Contestant(name, backend, batch, float(np.median(ms)), low, high, float(np.quantile(ms, 0.9)), len(ms), warm)


def median_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the median by order statistics (binomial, normal approximation; Conover, Practical
    Nonparametric Statistics, 3.2)."""
    ordered, count = np.sort(values), len(values)
    reach = 1.96 * math.sqrt(count) / 2
    low = max(math.floor(count / 2 - reach), 0)
    high = min(math.ceil(count / 2 + reach), count - 1)
    return float(ordered[low]), float(ordered[high])


def _rank(batch: int, first: tuple[str, NDArray[np.float64]], second: tuple[str, NDArray[np.float64]]) -> Ranking:
    (name, ms), (other, theirs) = first, second
    ratios = theirs / ms
    middle = float(np.median(ratios))
    if middle < 1:
        return _rank(batch, second, first)
    low, high = median_interval(ratios)
    return Ranking(batch, name, other, middle, low, high)


def _call(path: Path, batch: int, request: ManyRequest) -> tuple[Call, str]:
    """A function that makes one call and gives its milliseconds, and the backend in words."""
    if path.suffix == ".onnx":
        return _onnx(path, batch, request), "onnxruntime CPU"
    return _engine(path, batch, request)


def _onnx(path: Path, batch: int, request: ManyRequest) -> Call:
    from quantbench.ort import create_session, refusals

    session = create_session(path, threads=request.threads)
    feed = _with_images(ort_feed(session, request.shapes or {}, batch), request.images, path)
    try:
        session.run(None, feed)
    except refusals() as error:
        raise QuantbenchError(f"onnxruntime refuses to run {path}: {str(error).splitlines()[0][:300]}") from error

    def call() -> float:
        before = time.perf_counter()
        session.run(None, feed)
        return (time.perf_counter() - before) * 1e3

    return call


def _engine(path: Path, batch: int, request: ManyRequest) -> tuple[Call, str]:
    from quantbench.engines.load_engine import load_engine
    from quantbench.engines.tensorrt_bench import BenchOptions, bench

    loaded = load_engine(path, host_code=False)
    feed = {}
    for name in loaded.inputs:
        shape = tuple((request.shapes or {}).get(name) or (batch, *loaded.opt_shape(name)[1:]))
        feed[name] = noise(shape, loaded.dtype(name))
    filled = _with_images(feed, request.images, path)
    options = BenchOptions(warm_up_seconds=0.0, seconds=0.0, least_calls=3)

    def call() -> float:
        return float(np.median(bench(loaded, filled, options).latency))

    return call, f"{loaded.title} on {loaded.device.name}"


def _with_images(feed: Feed, images: Feed | None, path: Path) -> dict[str, NDArray[Any]]:
    """`feed` with real images in place of noise, repeated up to its batch."""
    filled = dict(feed)
    for name, array in (images or {}).items():
        if name not in filled:
            raise QuantbenchError(f"{path} has no input {name!r}; it takes {', '.join(filled)}")
        wanted = filled[name]
        if array.shape[1:] != wanted.shape[1:]:
            raise QuantbenchError(f"images are {list(array.shape[1:])}, {path} takes {list(wanted.shape[1:])}")
        filled[name] = np.resize(array, wanted.shape).astype(wanted.dtype)
    return filled
