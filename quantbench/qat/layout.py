"""How a tensor lies in memory, as the kernels see it."""

import functools
from typing import NamedTuple

# Elements of a thread: rows must begin and end with them.
EACH = 8


class Layout(NamedTuple):
    """`order`: dimensions from the slowest to the fastest. Elements lie in rows of `width` that begin `pitch` apart; a
    width of 0: without gaps."""

    order: tuple[int, ...]
    width: int
    pitch: int


@functools.lru_cache(4096)
def layout(shape: tuple[int, ...], stride: tuple[int, ...]) -> Layout | None:
    """The layout of a tensor without gaps, in whatever order of dimensions, or of a slice of one (some channels of it);
    None for what lies otherwise."""
    order = tuple(sorted((d for d, n in enumerate(shape) if n != 1), key=lambda d: -stride[d]))
    width = pitch = 0
    size = reach = 1  # elements of the dimensions so far, and how far apart the next one must have them
    for dimension in reversed(order):
        if stride[dimension] != reach:
            if width or stride[dimension] < size:
                return None  # a second gap, or elements that are several at once
            width, pitch, reach = size, stride[dimension], stride[dimension]
        size *= shape[dimension]
        reach *= shape[dimension]
    return None if width % EACH or pitch % EACH else Layout(order, width, pitch)
