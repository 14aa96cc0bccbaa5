"""Counting many tensors into one table of histograms, compiled and on all cores, or with numpy."""

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.histogram import BINS, MIN_EXPONENT, Histogram, exponent_for, fold
from quantbench.calibration.native import load
from quantbench.cores import usable_cores

# Elements of a slice: about a millisecond of work, so that threads end together and locks are rare.
_SLICE = 1 << 20
# Elements that numpy handles at a time: its scratch buffers stay in the L2 cache.
_CHUNK = 1 << 16
_INFINITE = 0x7F800000
_NOT_A_NUMBER = 0x7FC00000
FLOAT32, FLOAT16, BFLOAT16 = 0, 1, 2


class _Slice(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_int64), ("dtype", ctypes.c_int32), ("row", ctypes.c_int32))


class _Job(ctypes.Structure):
    _fields_ = (
        ("slices", ctypes.c_void_p), ("count", ctypes.c_int64), ("next", ctypes.c_int64), ("counts", ctypes.c_void_p),
        ("exponents", ctypes.c_void_p), ("maxima", ctypes.c_void_p), ("locks", ctypes.c_void_p),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A contiguous stretch of memory to count: `size` elements of `dtype` (FLOAT32, FLOAT16 or BFLOAT16) at `address`,
    into row `row`. Whoever makes it keeps the memory alive.
    """

    row: int
    address: int
    size: int
    dtype: int = FLOAT32

    @property
    def nbytes(self) -> int:
        """Bytes of the stretch."""
        return self.size * (4 if self.dtype == FLOAT32 else 2)

    def at(self, row: int) -> "Block":
        """The same memory for another row."""
        return Block(row, self.address, self.size, self.dtype)


def block_of(values: NDArray[np.generic], row: int = -1) -> Block:
    """The memory of a C-ordered float32 or float16 array."""
    return Block(row, values.ctypes.data, values.size, FLOAT32 if values.dtype == np.float32 else FLOAT16)


class Counter:
    """Histograms of `rows` tensors under construction; what is counted never depends on order or on `threads`."""

    def __init__(self, rows: int, *, threads: int = 0) -> None:
        """`threads` 0: as many as this process may use."""
        self._counts = np.zeros((rows, BINS), np.int64)
        self._exponents = np.full(rows, MIN_EXPONENT, np.int32)
        self._maxima = np.zeros(rows, np.uint32)
        self._locks = np.zeros(rows, np.uint8)
        self._library = load()
        self._threads = threads or usable_cores()
        self._pool = ThreadPoolExecutor(self._threads, "quantbench-sweep") if self._threads > 1 else None

    def add(self, blocks: Sequence[Block]) -> None:
        """Count all `blocks`; returns when they are counted."""
        if self._library is None:
            for block in blocks:
                self._add_with_numpy(block)
            return
        slices = [
            _Slice(block.address + start * (4 if block.dtype == FLOAT32 else 2), min(_SLICE, block.size - start),
                   block.dtype, block.row)
            for block in blocks
            for start in range(0, block.size, _SLICE)
        ]  # fmt: skip
        if self._pool:  # the largest first, so that no thread is left with one at the end
            slices.sort(key=lambda piece: -piece.size)
        else:  # what was written last first: it is still in a cache
            slices.reverse()
        table = (_Slice * len(slices))(*slices)
        job = _Job(
            ctypes.addressof(table), len(slices), 0, self._counts.ctypes.data, self._exponents.ctypes.data,
            self._maxima.ctypes.data, self._locks.ctypes.data,
        )  # fmt: skip
        sweep = self._library.quantbench_sweep
        extra = min(self._threads, len(slices)) - 1
        helpers = [self._pool.submit(sweep, ctypes.byref(job)) for _ in range(extra)] if self._pool else []
        sweep(ctypes.byref(job))
        for helper in helpers:
            helper.result()

    def add_array(self, row: int, values: NDArray[np.generic]) -> None:
        """Count one array (float32 or float16; others are converted to float32)."""
        if values.dtype not in (np.float32, np.float16):
            values = values.astype(np.float32)
        values = np.ascontiguousarray(values)
        self.add([block_of(values, row)])

    def clear(self) -> None:
        """Forget what was counted."""
        self._counts[:], self._exponents[:], self._maxima[:] = 0, MIN_EXPONENT, 0

    def histogram(self, row: int) -> Histogram:
        """What `row` holds now, as a value of its own."""
        amax = float(self._maxima[row : row + 1].view(np.float32)[0])
        if not np.isfinite(amax):
            return Histogram(np.zeros(BINS, np.int64), MIN_EXPONENT, amax)
        return Histogram(self._counts[row].copy(), int(self._exponents[row]), amax)

    def _add_with_numpy(self, block: Block) -> None:
        flat = memory_of(block)
        scaled = np.empty(min(_CHUNK, flat.size), np.float32)
        index = np.empty(scaled.size, np.int64)
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            if block.dtype == BFLOAT16:
                part = (part.astype(np.uint32) << 16).view(np.float32)
            x, i = scaled[: part.size], index[: part.size]
            np.abs(part.astype(np.float32, copy=False), out=x)
            # As bits: the order is that of the values, infinity above all of them, NaN above infinity.
            largest = int(x.view(np.uint32).max())
            if largest >= _INFINITE:
                largest = _NOT_A_NUMBER if largest > _INFINITE else largest
            elif int(self._maxima[block.row]) < _INFINITE:
                self._count_chunk(block.row, x, i)
            self._maxima[block.row] = max(int(self._maxima[block.row]), largest)

    def _count_chunk(self, row: int, x: NDArray[np.float32], index: NDArray[np.int64]) -> None:
        old = int(self._exponents[row])
        exponent = max(old, exponent_for(float(x.max())))
        if exponent > old:
            self._counts[row] = fold(self._counts[row], exponent - old)
            self._exponents[row] = exponent
        np.multiply(x, np.float32(2.0**-exponent), out=x)
        np.copyto(index, x, casting="unsafe")
        self._counts[row] += np.bincount(index, minlength=BINS)


def memory_of(block: Block) -> NDArray[Any]:
    """The elements of a block, flat, not copied; bfloat16 as uint16."""
    element = {FLOAT32: np.float32, FLOAT16: np.float16, BFLOAT16: np.uint16}[block.dtype]
    if not block.size:
        return np.empty(0, element)
    raw = (ctypes.c_uint8 * (block.size * np.dtype(element).itemsize)).from_address(block.address)
    return np.ctypeslib.as_array(raw).view(element)


def histogram_of(values: NDArray[np.generic], *, threads: int = 1) -> Histogram:
    """Histogram of one array (any shape, float32 or float16)."""
    counter = Counter(1, threads=threads)
    counter.add_array(0, values)
    return counter.histogram(0)
