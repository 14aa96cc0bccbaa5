"""Time of a matrix product or convolution on a GPU: waves of tiles over the multiprocessors, not a roofline.

A kernel cuts the M x N output into tiles of tm x tn; the multiprocessors work them off in waves, of which the last
costs nearly as much as a full one:

    t = c + smoothmax(waves·(K+K0)·tm·tn·(1 + a(1/tm + 1/tn)) / R,  (K+K0)·tau·ceil(waves/4),  bytes / BW)
    waves = 0.7·ceil(x) + 0.3·max(x, 1),  x = ceil(M/tm)·ceil(N/tn)·groups / SMs

c is the launch, R the multiply-adds that one multiprocessor does a microsecond, a what a tile loads besides, tau the
latency of a step of K where few tiles cannot hide it; 0.3 stands for tiles of one multiprocessor that overlap. Each
tile has a factor of its own: some are never good. The time of a layer is the least over the tiles that the device's
kernels have. Each (arithmetic, input format, output format) has its own numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from quantbench.latency.work import Work

Array = NDArray[np.float64]
# Tiles of cuDNN's and TensorRT's usual kernels, for timings that name none.
Tile = tuple[int, int, float]
COMMON_TILES: tuple[Tile, ...] = ((256, 128, 1), (128, 128, 1), (128, 64, 1), (64, 64, 1), (64, 32, 1), (32, 32, 1),
                                  (128, 32, 1), (256, 64, 1))  # fmt: skip
_SHARPNESS = 3.0
# Share of a last wave's idle tiles that costs nothing: by leaving networks of an RTX 3080 Ti and an A100 out.
_OVERLAP = 0.3


@dataclass(frozen=True, slots=True)
class Params:
    """Numbers of one class: `launch` in µs, `rate` in multiply-adds a µs and multiprocessor, `bandwidth` in bytes a
    µs, `extra` the tile term a, `depth` K0, `step` tau in µs, `factor` of the fastest kernel against the model;
    `small` that of 3 x 3 windows of stride 1, for which there are kernels of fewer multiplications (Winograd), `stem`
    that of first layers, whose few channels fill no vector; `tiles` (rows of M, columns of N, factor on the time)."""

    launch: float
    rate: float
    bandwidth: float
    extra: float
    depth: float
    step: float
    factor: float = 1.0
    small: float = 1.0
    stem: float = 1.0
    tiles: tuple[Tile, ...] = field(default=COMMON_TILES)

    def faster(self, ratio: float, kept: float = 1.0) -> "Params":
        """The same kernels with an arithmetic of `ratio` times the rate, of which large products keep the share
        `kept`; a step of K, which moves as many bytes, takes that much less."""
        return replace(self, rate=self.rate * ratio * kept, step=self.step / ratio)

    def times(self, other: "Params", over: "Params") -> "Params":
        """This class, changed as `other` differs from `over` (of another device)."""
        names = ("launch", "rate", "bandwidth", "extra", "depth", "step", "factor", "small", "stem")
        changed = {n: getattr(self, n) * getattr(other, n) / getattr(over, n) for n in names}
        return replace(self, **changed)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Columns of several works: arrays of one length."""

    m: Array
    n: Array
    k: Array
    groups: Array
    nbytes: Array

    @classmethod
    def of(cls, works: Sequence[Work]) -> "Sizes":
        columns = np.array([(w.m, w.n, w.deep, w.groups, w.nbytes) for w in works], dtype=np.float64).reshape(-1, 5)
        return cls(*columns.T)

    def __getitem__(self, index: object) -> "Sizes":
        return Sizes(*(getattr(self, name)[index] for name in ("m", "n", "k", "groups", "nbytes")))


def time_us(p: Array, sizes: Sizes, tile: tuple[Array, Array], sms: float) -> Array:
    """Time in µs for parameters `p` = logs of (launch, rate, bandwidth, extra, depth, step) and one tile each."""
    launch, rate, bandwidth, extra, depth, step = np.exp(p)
    tm, tn = tile
    full = np.ceil(sizes.m / tm) * np.ceil(sizes.n / tn) * sizes.groups / sms
    waves = (1 - _OVERLAP) * np.ceil(full) + _OVERLAP * np.maximum(full, 1)
    steps = sizes.k + depth
    compute = waves * steps * tm * tn * (1 + extra * (1 / tm + 1 / tn)) / rate
    serial = steps * step * np.ceil(full / 4)
    memory = sizes.nbytes / bandwidth
    mixed: Array = launch + (compute**_SHARPNESS + serial**_SHARPNESS + memory**_SHARPNESS) ** (1 / _SHARPNESS)
    return mixed


def logs_of(params: Params) -> Array:
    """The vector that `time_us` takes."""
    return np.log([params.launch, params.rate, params.bandwidth, params.extra, params.depth, params.step])


def fastest_us(p: Array, sizes: Sizes, tiles: Sequence[Tile], sms: float) -> Array:
    """Least time over `tiles`, in µs."""
    columns = np.array(tiles, dtype=np.float64)[:, :, None]
    spread = Sizes(*(getattr(sizes, name)[None, :] for name in ("m", "n", "k", "groups", "nbytes")))
    grid = time_us(p, spread, (columns[:, 0], columns[:, 1]), sms) * columns[:, 2]
    return np.asarray(grid.min(axis=0))


def predict_us(params: Params, works: Sequence[Work], sms: float) -> Array:
    """Times in µs of `works` by the class `params`."""
    factors = np.array([factor_of(params, w) for w in works])
    return np.asarray(fastest_us(logs_of(params), Sizes.of(works), params.tiles, sms) * factors, dtype=np.float64)


def factor_of(params: Params, work: Work) -> float:
    """The factor that a work of this sort takes."""
    return params.stem if work.stem else params.small if work.small else params.factor
