"""How many cores this process may use, and how many threads decode images."""

import os

_decoders: int | None = None


def usable_cores() -> int:
    """Cores that this process may run on (its affinity where the system tells it)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_decoders(count: int) -> None:
    """Decode images with `count` threads from here on, in this process; 0: as many as there are cores."""
    global _decoders
    _decoders = count or None


def decoders() -> int:
    """Threads that decode images."""
    return _decoders or usable_cores()
