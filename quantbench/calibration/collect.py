"""Calibration's one pass: images through the network, every wanted tensor counted into its histogram.

The grid of a histogram nests in that of any other (`quantbench.calibration.histogram`), so the result depends neither
on the order of the images nor on how they are split among processes; histograms merge exactly.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Protocol

import onnx

from quantbench.calibration.histogram import Histogram, merge, require_finite
from quantbench.calibration.ort_outputs import Bound, Feed, InnerTensors, images_of, static_batch
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
    """A network and the histograms of its `tensors`; feed it batches, read `histograms` at any time."""

    def __init__(
        self, model: onnx.ModelProto, tensors: Sequence[str], *, threads: int = 0, overlap: bool | None = None
    ) -> None:
        """`threads` for the network and for counting each; 0: as many as there are cores. With `overlap` a half of a
        batch is counted beside the inference of the next half: no more memory, where the batch is dynamic. None: where
        there is more than one thread, for there it measures faster (docs/performance.md).
        """
        overlap = (threads or usable_cores()) > 1 if overlap is None else overlap
        self._sources = sources(model, tensors)
        counted = self._sources.counted
        self._rows = {name: row for row, name in enumerate(counted)}
        self._runner = InnerTensors(model, counted, threads=threads, free=counted)
        self._counter = Counter(len(counted), threads=threads)
        beside = overlap and not static_batch(model)
        self._beside = ThreadPoolExecutor(1, "quantbench-count") if beside else None
        self._parts = Parts(model, 2 if beside else 1, threads or usable_cores())
        self._open: tuple[Future[None], ExitStack] | None = None

    def add(self, feed: Feed) -> int:
        """Run one batch and count it; returns its images. Only this batch's activations are alive meanwhile, and no
        more than `MOST_BYTES` of them where the batch is dynamic and one image's are less: it is run in parts then.
        """
        for part in self._parts.of(feed):
            with ExitStack() as stack:
                blocks = stack.enter_context(self._runner.bound(part))
                self._parts.saw(part, sum(block.nbytes for _, block, _ in blocks))
                self._settle()
                if self._beside is None:
                    self._count(blocks)
                else:
                    self._open = self._beside.submit(self._count, blocks), stack.pop_all()
        return images_of(feed)

    def _count(self, blocks: Sequence[Bound]) -> None:
        self._counter.add([block.at(self._rows[name]) for name, block, _ in blocks])

    def _settle(self) -> None:
        """Wait for what is being counted, and let go of its memory."""
        if self._open is not None:
            future, stack = self._open
            self._open = None
            with stack:
                future.result()

    def restart(self) -> None:
        """Forget what was counted."""
        self._settle()
        self._counter.clear()

    def histograms(self) -> dict[str, Histogram]:
        """What was counted so far, in the order of the tensors."""
        self._settle()
        return self._sources.all({name: self._counter.histogram(row) for name, row in self._rows.items()})


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
