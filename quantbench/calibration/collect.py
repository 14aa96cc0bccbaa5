"""Calibration's one pass: images through the network, every wanted tensor counted into its histogram.

The grid of a histogram nests in that of any other (`quantbench.calibration.histogram`), so the result depends neither
on the order of the images nor on how they are split among processes; histograms merge exactly.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import reduce
from typing import Protocol

import onnx

from quantbench.calibration.histogram import Histogram, merge, require_finite
from quantbench.calibration.ort_outputs import Feed, InnerTensors, images_of, static_batch
from quantbench.calibration.parts import Parts
from quantbench.calibration.same_values import sources
from quantbench.calibration.sweep import Counter
from quantbench.cores import usable_cores
from quantbench.errors import QuantbenchError

# Called after each batch with the number of images in it.
OnBatch = Callable[[int], None]


class Counts(Protocol):
    """A pass that is under way: feed it batches, read its histograms at any time."""

    def add(self, feed: Feed) -> int:
        """Run one batch and count it; returns its images."""

    def restart(self) -> None:
        """Forget what was counted."""

    def histograms(self) -> dict[str, Histogram]:
        """What was counted so far, by tensor."""


# Begins a pass over tensors of a model, with so many threads (0: as many as there are cores).
Begin = Callable[[onnx.ModelProto, Sequence[str], int], Counts]


class Collector:
    """A network and the histograms of its `tensors`; feed it batches, read `histograms` at any time.

    Batches of a dynamic size are cut into parts that run side by side, each in one thread which then counts what it
    got, while it is in a cache of its core (`quantbench.side_by_side` says why). Those in flight are as many images
    as one batch at most, and no more activations than `MOST_BYTES` unless one image's are.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], *, threads: int = 0) -> None:
        """`threads` in all, 0: as many as there are cores."""
        self._model = model
        self._sources = sources(model, tensors)
        self._counted = self._sources.counted
        self._rows = {name: row for row, name in enumerate(self._counted)}
        self._threads = threads or usable_cores()
        self._counters: list[Counter] = []
        self._waiting: deque[Future[None]] = deque()
        self._lanes = 1 if static_batch(model) else self._threads
        self._parts = Parts(model, self._lanes, self._threads // self._lanes)
        self._begin()

    def _begin(self) -> None:
        """So many lanes, each with its share of the threads and a counter of its own."""
        each = self._threads // self._lanes
        self._runner = InnerTensors(self._model, self._counted, threads=each, free=self._counted)
        self._idle = deque(Counter(len(self._counted), threads=each) for _ in range(self._lanes))
        self._counters += self._idle
        self._pool = ThreadPoolExecutor(self._lanes, "quantbench-calibration") if self._lanes > 1 else None

    def add(self, feed: Feed) -> int:
        """Run one batch and count it, the last parts of it perhaps beside the next one; returns its images."""
        for part in self._parts.of(feed):
            if self._pool is None:
                self._run(part)
            elif not self._parts.image_bytes:
                self._run(part)  # alone: it tells how large the activations of one image are
                fit = self._parts.at_a_time()
                if fit < self._lanes:
                    self._lanes = fit
                    self._begin()
            else:
                if len(self._waiting) == self._lanes:
                    self._waiting.popleft().result()
                self._waiting.append(self._pool.submit(self._run, part))
        return images_of(feed)

    def _run(self, part: Feed) -> None:
        with self._runner.bound(part) as blocks:
            self._parts.saw(part, sum(block.nbytes for _, block, _ in blocks))
            counter = self._idle.popleft()
            counter.add([block.at(self._rows[name]) for name, block, _ in blocks])
            self._idle.append(counter)

    def _settle(self) -> None:
        """Wait for what is being counted."""
        while self._waiting:
            self._waiting.popleft().result()

    def restart(self) -> None:
        """Forget what was counted."""
        self._settle()
        for counter in self._counters:
            counter.clear()

    def histograms(self) -> dict[str, Histogram]:
        """What was counted so far, in the order of the tensors."""
        self._settle()
        return self._sources.all({
            name: reduce(merge, (counter.histogram(row) for counter in self._counters))
            for name, row in self._rows.items()
        })  # fmt: skip


def on_cpu(model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> Counts:
    """A pass in onnxruntime's CPU kernels, counted by the compiled sweep."""
    return Collector(model, tensors, threads=threads)


def collect(
    model: onnx.ModelProto,
    feeds: Iterable[Feed],
    tensors: Sequence[str],
    *,
    threads: int = 0,
    begin: Begin = on_cpu,
    on_batch: OnBatch | None = None,
) -> dict[str, Histogram]:
    """Histogram of |x| of each of `tensors` over all `feeds`, in the pass that `begin` makes.

    A tensor that reached infinity or NaN has a broken histogram (`usable` decides what becomes of it). Raises
    QuantbenchError where there is no batch at all.
    """
    collector = begin(model, tensors, threads)
    seen = 0
    for feed in feeds:
        count = collector.add(feed)
        seen += count
        if on_batch:
            on_batch(count)
    if not seen:
        raise QuantbenchError("no calibration images; give a folder with images (--calib-dir)")
    return collector.histograms()


def merge_histograms(first: Mapping[str, Histogram], second: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """Histograms of two parts of the images; bit-exact in any order."""
    return {name: merge(histogram, second[name]) for name, histogram in first.items()}


def usable(histograms: Mapping[str, Histogram], needed: Iterable[str]) -> tuple[dict[str, Histogram], list[str]]:
    """Histograms of finite tensors, and the names of those left out because they reached infinity or NaN.

    A mask of -inf that nothing quantizes is ordinary; raises QuantbenchError, naming the first tensor
    of the network that is not, where one of `needed` is not finite.
    """
    first = next((name for name in histograms if histograms[name].broken), "")
    for name in needed:
        if name in histograms and histograms[name].broken:
            # What lies behind the first one is no news.
            require_finite(histograms[first], first)
    kept = {name: histogram for name, histogram in histograms.items() if not histogram.broken}
    return kept, [name for name in histograms if name not in kept]


def maxima_of(histograms: Mapping[str, Histogram]) -> dict[str, float]:
    """Exact largest |x| of each tensor. Raises QuantbenchError where one is not finite."""
    for name, histogram in histograms.items():
        require_finite(histogram, name)
    return {name: histogram.amax for name, histogram in histograms.items()}
