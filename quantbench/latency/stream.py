"""Time of a layer that moves bytes: a launch, and memory or multiprocessors, whichever takes longer.

    t = c + smoothmax(bytes / BW, elements / pace)
    bytes = moved - (1 - CACHED)·min(moved, L2)

moved is what the layer reads and writes. What fits the L2 cache is there still when a kernel follows the one that wrote
it. elements is the larger side as its layout pads it: kernels that change a layout work through the padding, too, and
where multiprocessors are few they are what limits. CACHED is the share of a byte's time that one in the cache takes,
by copies of 2 to 70 MB on an RTX 3080 Ti and an RTX 4090.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantbench.latency.work import Work
from quantbench.layers.layer import BYTES_PER_ELEMENT

Array = NDArray[np.float64]
_CACHED = 0.3
_SHARPNESS = 3.0


@dataclass(frozen=True, slots=True)
class Stream:
    """`launch` in µs, `bandwidth` in bytes a µs, `pace` in padded elements a µs."""

    launch: float
    bandwidth: float
    pace: float


def from_memory(moved: Array, cache: float) -> Array:
    """Bytes that count, of `moved`, with an L2 cache of `cache` bytes."""
    return np.asarray(moved - (1 - _CACHED) * np.minimum(moved, cache))


def sizes(works: Sequence[Work]) -> tuple[Array, Array]:
    """(bytes moved, padded elements) of each."""
    moved = np.array([w.read + w.written for w in works], dtype=np.float64)
    return moved, np.array([padded(w) for w in works], dtype=np.float64)


def padded(work: Work) -> float:
    """Elements of the larger side, padding counted."""
    return max(work.read / BYTES_PER_ELEMENT.get(work.source.dtype, 4),
               work.written / BYTES_PER_ELEMENT.get(work.target.dtype, 4))  # fmt: skip


def stream_us(stream: Stream, moved: Array, elements: Array, cache: float) -> Array:
    """Times in µs."""
    memory = from_memory(moved, cache) / stream.bandwidth
    work = elements / stream.pace
    return np.asarray(stream.launch + (memory**_SHARPNESS + work**_SHARPNESS) ** (1 / _SHARPNESS))
