"""How many cores this process may use, and how many threads decode images."""

import contextlib
import os
from collections.abc import Iterator

_decoders: int | None = None


def usable_cores() -> int:
    """Cores that this process may run on (its affinity where the system tells it)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_decoders(count: int) -> None:
    """Decode images with `count` threads from here on, in this process; 0: as many as there are cores."""
    global _decoders
    _decoders = count or None


@contextlib.contextmanager
def decoding_with(count: int) -> Iterator[None]:
    """Decode with `count` threads meanwhile."""
    global _decoders
    before, _decoders = _decoders, count
    try:
        yield
    finally:
        _decoders = before


def decoders_of(processes: int) -> int:
    """Threads that decode in each of so many processes: as many as were asked for, else a share of the cores."""
    return _decoders or max(usable_cores() // processes, 1)


def decoders() -> int:
    """Threads that decode images."""
    return _decoders or usable_cores()
