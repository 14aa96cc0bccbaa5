"""Batches side by side, each on a core of its own, their results in order.

A network of small layers gains little from a second thread within a layer, and the threads spin while they wait for
each other: EfficientNet-Lite0 and its INT8 twin took 2.2 times the processor time with two threads than with one, for
the same bits (docs/performance.md). So a batch is cut into as many as there are cores, where it can be cut, and each
part goes through the network in one thread; as many samples are in flight as before.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition
from typing import TypeVar

from quantbench.cores import usable_cores

Item = TypeVar("Item")
Found = TypeVar("Found")
Result = TypeVar("Result")

# Batches of a fixed size cannot be cut: two of so many samples at most run at once, which are 8 as by default.
_FIXED = 4


@dataclass(frozen=True, slots=True)
class Sharing:
    """`batches` of `size` samples run at a time, each in a session of `threads` threads."""

    batches: int
    size: int
    threads: int


def shared_out(threads: int, batch: int, fixed: int = 0) -> Sharing:
    """How `threads` (0: all cores) go through batches of `batch` samples, or of the `fixed` number that the model
    takes."""
    total = threads or usable_cores()
    if fixed:
        batches = min(total, 2) if fixed <= _FIXED else 1
        return Sharing(batches, fixed, total // batches)
    batches = max(1, min(total, batch))
    return Sharing(batches, -(-batch // batches), total // batches)


def in_pairs(threads: int, batch: int, fixed: int = 0) -> Sharing:
    """The same in parts so small that activations stay in the caches, two at a time."""
    whole = shared_out(threads, batch, fixed)
    if fixed:
        return whole
    total = threads or usable_cores()
    batches = 2 if min(total, batch) > 1 else 1
    return Sharing(batches, max(1, min(max(2, total // batches), batch // batches)), total // batches)


def in_order(items: Iterable[Item], work: Callable[[Item], Result], at_a_time: int) -> Iterator[Result]:
    """`work` of each item, in the items' order, `at_a_time` of them at once; no further item is taken before one is
    done. With 1 all is done in the caller's thread. What `work` raises is raised here, and what waits is dropped."""
    if at_a_time == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="quantbench-batches")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == at_a_time:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_turn(
    items: Iterable[Item], work: Callable[[Item], Found], then: Callable[[Found], Result], at_a_time: int
) -> Iterator[Result]:
    """`then` of what `work` finds of each item, as `in_order`, but `then` for one item at a time, in order, by whoever
    did its work: so no core waits for the caller, and no more is alive than `at_a_time` finds."""
    turn, ended = Condition(), 0
    failed = False

    def whole(numbered: tuple[int, Item]) -> Result:
        nonlocal ended, failed
        number, item = numbered
        try:
            found = work(item)
            with turn:
                turn.wait_for(lambda: failed or ended == number)
                if failed:
                    raise CancelledError
            result = then(found)
        except BaseException:
            with turn:
                failed = True
                turn.notify_all()
            raise
        with turn:
            ended += 1
            turn.notify_all()
        return result

    yield from in_order(enumerate(items), whole, at_a_time)
