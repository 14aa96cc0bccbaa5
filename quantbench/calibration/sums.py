"""Sums over activations where onnxruntime wrote them: compiled and on all cores (`sums.c`), or with numpy."""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.native import load
from quantbench.calibration.sweep import FLOAT32, Block, memory_of
from quantbench.cores import usable_cores

# Elements of a piece of work: a fraction of a millisecond, so that threads end together.
_PIECE = 1 << 18
_POINTER = ctypes.c_void_p


@dataclass(frozen=True, slots=True)
class Levels:
    """A per-tensor quantization: real = (integer - zero) * scale, `low` and `high` are integers less the zero point."""

    scale: float
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Means:
    """Sums under construction, float64 [columns] each: of the values, and of the integers that they become."""

    sums: NDArray[np.float64]
    levels: NDArray[np.float64]


class Sums:
    """Sums on some threads; use it in a `with`."""

    def __init__(self, threads: int = 0) -> None:
        """`threads` 0: as many as this process may use."""
        self._library = load()
        threads = threads or usable_cores()
        self._pool = ThreadPoolExecutor(threads, "quantbench-sums") if threads > 1 and self._library else None

    def __enter__(self) -> "Sums":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def add_means(self, work: Sequence[tuple[Block, Levels, Means]]) -> None:
        """Add each block, as rows of as many columns as its means have, to those means."""
        self._all([piece for block, levels, means in work for piece in self._mean_pieces(block, levels, means)])

    def differences(self, pairs: Sequence[tuple[Block, Block]]) -> NDArray[np.float64]:
        """Sums of x^2, y^2, x y and (x - y)^2 for each pair of blocks of one size: float64 [pairs, 4]."""
        pieces = [
            (number, start, min(_PIECE, first.size - start))
            for number, (first, _) in enumerate(pairs)
            for start in range(0, first.size, _PIECE)
        ]
        parts = np.zeros((len(pieces), 4))
        work = []
        for row, (number, start, size) in enumerate(pieces):
            first, second = pairs[number]
            work.append(self._difference(_part(first, start, size), _part(second, start, size), parts[row]))
        self._all(work)
        totals = np.zeros((len(pairs), 4))
        np.add.at(totals, [number for number, _, _ in pieces], parts)
        return totals

    def _all(self, work: Sequence[Callable[[], None]]) -> None:
        if self._pool is None:
            for piece in work:
                piece()
            return
        for done in [self._pool.submit(piece) for piece in work]:
            done.result()

    def _mean_pieces(self, block: Block, levels: Levels, means: Means) -> list[Callable[[], None]]:
        columns = len(means.sums)
        rows = block.size // columns if columns else 0
        if not rows:
            return []
        library = self._library
        if library is None or block.dtype != FLOAT32:
            return [lambda: _add_with_numpy(memory_of(block).reshape(rows, columns), levels, means)]
        function = library.quantbench_fake_quantized_sums
        scale, low, high = (ctypes.c_float(value) for value in (levels.scale, levels.low, levels.high))
        given, sums, integers = block.address, means.sums.ctypes.data, means.levels.ctypes.data
        # Pieces share no column; one thread needs none.
        width = max(_PIECE // rows, 1024) if self._pool is not None else columns

        def piece(start: int) -> Callable[[], None]:
            counts = [ctypes.c_int64(value) for value in (rows, columns, min(width, columns - start))]
            targets = _POINTER(sums + 8 * start), _POINTER(integers + 8 * start)
            return lambda: function(_POINTER(given + 4 * start), *counts, scale, low, high, *targets)

        return [piece(start) for start in range(0, columns, width)]

    def _difference(self, first: Block, second: Block, totals: NDArray[np.float64]) -> Callable[[], None]:
        if self._library is None or first.dtype != FLOAT32 or second.dtype != FLOAT32:
            return lambda: _differences_with_numpy(memory_of(first), memory_of(second), totals)
        function = self._library.quantbench_differences
        given = (_POINTER(first.address), _POINTER(second.address), ctypes.c_int64(first.size))
        return lambda: function(*given, _POINTER(totals.ctypes.data))


def _part(block: Block, start: int, size: int) -> Block:
    width = 4 if block.dtype == FLOAT32 else 2
    return Block(block.row, block.address + width * start, size, block.dtype)


def _add_with_numpy(values: NDArray[np.floating], levels: Levels, means: Means) -> None:
    for row in values:
        wide = row.astype(np.float32, copy=False)
        means.sums[:] += wide
        means.levels[:] += np.rint(np.clip(wide / np.float32(levels.scale), levels.low, levels.high))


def _differences_with_numpy(
    first: NDArray[np.floating], second: NDArray[np.floating], totals: NDArray[np.float64]
) -> None:
    x, y = first.astype(np.float64), second.astype(np.float64)
    totals[:] = (x @ x, y @ y, x @ y, ((x - y) ** 2).sum())
