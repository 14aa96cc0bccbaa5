"""Histograms of torch tensors: on the CPU by the compiled sweep, on a device without waiting for it.

On a device the counts, exponents and maxima of all tensors stay there, and the grid grows there too, so no layer
makes the host wait (`quantbench.qat.device_sweep`; where NVRTC is missing torch's operators do the same). The numbers
are those of `quantbench.calibration` for the same values, bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from quantbench.calibration.histogram import BINS, MIN_EXPONENT, Histogram
from quantbench.calibration.sweep import BFLOAT16, FLOAT16, FLOAT32, Block, Counter
from quantbench.qat.device_sweep import JOBS, dense, device_sweep, fresh_rows, supported

_BITS = 12
# What may wait to be counted; a tensor of this size alone keeps a card busy for much longer than a launch costs.
_WAITING_BYTES = 256 * 1024**2
_ON_HOST = {torch.float32: FLOAT32, torch.float16: FLOAT16, torch.bfloat16: BFLOAT16}


class Changed(RuntimeError):
    """A tensor that waited to be counted was written over by the model (an operator in place)."""


class _Waiting:
    """Tensors to be counted in one launch."""

    def __init__(self, count: Callable[[Sequence[tuple[int, Tensor]]], None]) -> None:
        self._count = count
        self._tensors: list[tuple[int, Tensor]] = []
        self._versions: list[int] = []
        self._bytes = 0

    def add(self, row: int, x: Tensor) -> None:
        self._tensors.append((row, x))
        self._versions.append(x._version)
        self._bytes += x.nbytes
        if len(self._tensors) == JOBS or self._bytes >= _WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        if any(x._version != version for (_, x), version in zip(self._tensors, self._versions, strict=True)):
            raise Changed("a tensor that waited to be counted was written over")
        self._count(self._tensors)
        self._tensors, self._versions, self._bytes = [], [], 0


class TensorCounter:
    """Counts of `rows` tensors. `add` as often as there are batches, then `histograms`."""

    def __init__(self, rows: int, device: torch.device, *, compiled: bool = True) -> None:
        """Without `compiled` torch's operators count, on any device."""
        self._device = device
        self._waiting: _Waiting | None = None
        self._host = Counter(rows) if compiled and device.type == "cpu" else None
        self._counts, self._exponents, self._maxima = fresh_rows(rows, device)
        on_card = compiled and device.type == "cuda"
        self._kernel = device_sweep(self._counts, self._exponents, self._maxima) if on_card else None

    def add(self, row: int, x: Tensor) -> None:
        """Count |x| of a tensor of any shape, float32, float16 or bfloat16."""
        if self._waiting is None:
            self.add_all([(row, x)])
        else:
            self._waiting.add(row, x)

    def add_all(self, tensors: Sequence[tuple[int, Tensor]]) -> None:
        """Count |x| of tensors, each into its row. On a card several are counted in one launch."""
        ready = []
        for row, given in tensors:
            x = dense(given.detach())
            x = x if x.dtype in _ON_HOST else x.float()
            if self._host is not None:
                self._host.add([Block(row, x.data_ptr(), x.numel(), _ON_HOST[x.dtype])])
            elif self._kernel is not None and supported(x):
                ready.append((row, x))
            else:
                self._add_with_operators(row, x)
        if ready:
            assert self._kernel is not None
            self._kernel.add(ready)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within it tensors given to `add` are kept until there are enough for a launch, and at the end the rest is
        counted. Raises `Changed` where one was written over meanwhile: what was counted is then not to be used, so do
        this in the capture of a graph, which runs nothing."""
        self._waiting = _Waiting(self.add_all)
        try:
            yield
            self._waiting.flush()
        finally:
            self._waiting = None

    def restart(self) -> None:
        """Forget what was counted."""
        if self._host is not None:
            self._host.clear()
        self._counts.zero_()
        self._exponents.fill_(MIN_EXPONENT)
        self._maxima.zero_()

    def histograms(self) -> list[Histogram]:
        """Histograms of all rows, merged over the process group if there is one; every process gets the same."""
        if self._host is not None:
            mine = [self._host.histogram(row) for row in range(len(self._exponents))]
            self._counts = torch.from_numpy(np.stack([h.counts for h in mine]))
            self._exponents = torch.tensor([h.exponent for h in mine], dtype=torch.int32)
            self._maxima = torch.tensor([h.amax for h in mine], dtype=torch.float32)
        # As bits: NaN is above infinity, and a reduction by maximum may drop NaN.
        bits = self._maxima.view(torch.int32).clone()
        exponents = self._exponents.clone()
        reduce_over_group(bits, "max")
        reduce_over_group(exponents, "max")
        counts = folded(self._counts, exponents - self._exponents)
        reduce_over_group(counts, "sum")
        found = []
        maxima = bits.view(torch.float32).cpu().tolist()
        for count, exponent, amax in zip(counts.cpu().numpy(), exponents.tolist(), maxima, strict=True):
            if np.isfinite(amax):
                found.append(Histogram(count, exponent, amax))
            else:
                found.append(Histogram(np.zeros_like(count), MIN_EXPONENT, amax))
        return found

    def _add_with_operators(self, row: int, x: Tensor) -> None:
        if not x.numel():
            return
        magnitude = x.abs().float().flatten()
        maximum = torch.maximum(self._maxima[row], magnitude.amax())  # both pass NaN on
        exponent = torch.maximum(self._exponents[row], exponents_for(maximum))
        scale = ((127 - exponent) << 23).view(torch.float32)  # 2^-exponent
        index = (magnitude * scale).to(torch.int64).clamp_(0, BINS - 1)
        grown = folded(self._counts[row : row + 1], (exponent - self._exponents[row])[None])[0]
        self._counts[row] = grown + torch.bincount(index, minlength=BINS)
        self._exponents[row] = exponent
        self._maxima[row] = maximum


def exponents_for(maxima: Tensor) -> Tensor:
    """int32 exponents of the grids that reach past float32 `maxima`, as quantbench.calibration.histogram.exponent_for;
    for infinity and NaN that of the largest finite value.
    """
    biased = (maxima.view(torch.int32) >> 23) & 0xFF
    return (biased.clamp(max=254) - 126 - _BITS).clamp(min=MIN_EXPONENT)


def folded(counts: Tensor, steps: Tensor) -> Tensor:
    """Counts int64 [rows, 4096] on grids whose bins are 2^steps [rows] times as wide; no synchronisation."""
    bins = torch.arange(BINS, device=counts.device)[None, :].expand_as(counts)
    target = bins >> steps.clamp(max=_BITS)[:, None]
    return torch.zeros_like(counts).scatter_add_(1, target, counts)


def reduce_over_group(value: Tensor, operation: str) -> None:
    """Replace `value` by its "sum" or "max" over the process group, if there is one."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        kinds: dict[str, Any] = {"max": dist.ReduceOp.MAX, "sum": dist.ReduceOp.SUM}
        dist.all_reduce(value, kinds[operation])
