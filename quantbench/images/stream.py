"""Streaming: batches of a source, loaded by threads ahead of the consumer, in order, in bounded memory."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.cores import decoders
from quantbench.errors import QuantbenchError
from quantbench.images.decode import BadImageError
from quantbench.images.source import Source
from quantbench.images.truth import Label

_LOG = logging.getLogger(__name__)
_SHOWN = 5


class NothingUsableError(QuantbenchError):
    """Not one sample of a source can be used, though no more are bad than may be."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`data` is [N, ...] with N up to the batch size (the last batch may be short); the rest says which images."""

    data: NDArray[Any]
    names: tuple[str, ...]
    indices: tuple[int, ...]
    labels: tuple[Label, ...]

    def __len__(self) -> int:
        return len(self.names)


def batches(
    source: Source,
    batch_size: int,
    *,
    workers: int | None = None,
    max_bad: int = 0,
    on_bad: Callable[[BadImageError], None] | None = None,
    several_sizes: bool = False,
) -> Iterator[Batch]:
    """Batches of `source` in order; while the consumer works on one, `workers` threads decode the next (None: those of
    `quantbench.cores.decoders`).

    At most two batches (and one image a worker) are in memory besides the one handed out. Images that cannot be used
    are told to `on_bad` (default: a log line with the name) and left out. Raises QuantbenchError when there are more
    than `max_bad` of them, when none is left, or when shapes within a batch differ: with `several_sizes` another shape
    begins another batch instead.
    """
    workers = decoders() if workers is None else workers
    if batch_size < 1 or workers < 1:
        raise QuantbenchError(f"batch size and workers must be at least 1, not {batch_size} and {workers}")
    bad: list[BadImageError] = []
    ready: list[tuple[int, NDArray[Any]]] = []
    done = 0
    for index, loaded in _in_order(source, workers, ahead=2 * batch_size + workers):
        if isinstance(loaded, BadImageError):
            bad.append(loaded)
            if len(bad) > max_bad:
                raise QuantbenchError(_too_many(bad, max_bad))
            (on_bad or _log_bad)(loaded)
            continue
        if several_sizes and ready and ready[0][1].shape != loaded.shape:
            done += len(ready)
            yield _batch(source, ready)
            ready = []
        ready.append((index, loaded))
        if len(ready) == batch_size:
            done += len(ready)
            yield _batch(source, ready)
            ready = []
    if ready:
        done += len(ready)
        yield _batch(source, ready)
    if done == 0:
        reason = f"; the first: {bad[0]}" if bad else ""
        raise NothingUsableError(f"not one of {len(source)} images can be used{reason}")


def _in_order(source: Source, workers: int, ahead: int) -> Iterator[tuple[int, NDArray[Any] | BadImageError]]:
    """Load all images, at most `ahead` of them before they are asked for."""

    def load(index: int) -> NDArray[Any] | BadImageError:
        try:
            return source.load(index)
        except BadImageError as error:
            return error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="quantbench-images")
    try:
        waiting: deque[tuple[int, Future[NDArray[Any] | BadImageError]]] = deque()
        for index in range(len(source)):
            waiting.append((index, pool.submit(load, index)))
            if len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        # Also reached when the consumer stops early or Ctrl-C arrives: do not decode what nobody will read.
        pool.shutdown(wait=True, cancel_futures=True)


def _batch(source: Source, ready: list[tuple[int, NDArray[Any]]]) -> Batch:
    first_index, first = ready[0]
    for index, array in ready:
        if array.shape != first.shape:
            raise QuantbenchError(
                f"images differ in shape after preprocessing: {source.name(first_index)} {list(first.shape)}, "
                f"{source.name(index)} {list(array.shape)}; declare a crop, exact or letterbox, or use batch size 1"
            )
    indices = tuple(index for index, _ in ready)
    return Batch(
        np.stack([array for _, array in ready]),
        tuple(source.name(index) for index in indices),
        indices,
        tuple(source.label(index) for index in indices),
    )


def _too_many(bad: list[BadImageError], max_bad: int) -> str:
    listed = "; ".join(str(error) for error in bad[:_SHOWN]) + ("; …" if len(bad) > _SHOWN else "")
    how = "an image cannot be used" if max_bad == 0 else f"more than {max_bad} images cannot be used"
    return f"{how}: {listed}. Remove them or allow more with --max-bad"


def _log_bad(error: BadImageError) -> None:
    _LOG.warning("skipped %s", error)
