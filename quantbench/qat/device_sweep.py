"""The CUDA sweep (`sweep.cu`), compiled for the card at hand by NVRTC and launched on torch's current stream.

CUDA C rather than Triton: Triton has no atomics on shared memory, and a private histogram there is what makes one
reading of the tensor enough.
"""

import ctypes
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quantbench.calibration.histogram import BINS, MIN_EXPONENT
from quantbench.qat.nvrtc import compiled

_SOURCE = Path(__file__).with_name("sweep.cu")
_COUNTED = (torch.float32, torch.float16, torch.bfloat16)
# Tensors that one launch counts. Each has 4 MB of scratch for grids that grow.
JOBS = 16
_SLOTS = 243  # exponents from MIN_EXPONENT to that of the largest float32
# Measured on an H100 against blocks of 512 and 1024 threads, one of them a processor (docs/performance.md).
_THREADS, _VECTORS, _VECTOR_BYTES = 256, 4, 16
_BLOCKS_PER_PROCESSOR = 2
_COPIES = (8, 4)  # the most whose table fits in the shared memory of the card
_COPY_BYTES = 2 * BINS
# A launch counts in 32 bits.
_MOST = 1 << 31


class _State(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("counts", "exponents", "maxima", "scratch", "used", "finished")
    )


class _Job(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p), ("size", ctypes.c_longlong), ("row", ctypes.c_int), ("first", ctypes.c_int)
    )  # fmt: skip


class _Launch(ctypes.Structure):
    _fields_ = (("jobs", _Job * JOBS), ("count", ctypes.c_int), ("tiles", ctypes.c_int))


class _Kernels(NamedTuple):
    functions: dict[torch.dtype, Any]
    shared_bytes: int


class DeviceSweep:
    """Counts tensors on one CUDA device into rows of `counts` [rows, 4096] (int64), `exponents` and `maxima` [rows]."""

    def __init__(self, counts: Tensor, exponents: Tensor, maxima: Tensor, kernels: _Kernels) -> None:
        self._device = counts.device
        self._kernels = kernels
        processors = torch.cuda.get_device_properties(self._device).multi_processor_count
        self._blocks = _BLOCKS_PER_PROCESSOR * processors
        self._scratch = torch.zeros(JOBS * _SLOTS * BINS, dtype=torch.int32, device=self._device)
        self._marks = torch.zeros(JOBS * 8 + 1, dtype=torch.int32, device=self._device)
        self._kept = (counts, exponents, maxima)
        marks = self._marks.data_ptr()
        self._launch, self._state = _Launch(), _State(
            counts.data_ptr(), exponents.data_ptr(), maxima.data_ptr(), self._scratch.data_ptr(), marks,
            marks + 4 * JOBS * 8,
        )  # fmt: skip
        self._arguments = (ctypes.c_void_p * 2)(ctypes.addressof(self._launch), ctypes.addressof(self._state))

    def add(self, tensors: Sequence[tuple[int, Tensor]]) -> None:
        """Count dense tensors of float32, float16 or bfloat16, whose memory begins at a multiple of 16 bytes, each into
        its row; up to JOBS of one dtype in a launch."""
        for dtype in dict.fromkeys(x.dtype for _, x in tensors):
            parts = [part for row, x in tensors if x.dtype == dtype for part in _parts(row, x)]
            for start in range(0, len(parts), JOBS):
                self._count(dtype, parts[start : start + JOBS])

    def _count(self, dtype: torch.dtype, parts: Sequence[tuple[int, int, int]]) -> None:
        from cuda.bindings import driver

        each, tiles = _VECTOR_BYTES // dtype.itemsize, 0
        for job, (row, pointer, size) in zip(self._launch.jobs, parts, strict=False):
            job.data, job.size, job.row, job.first = pointer, size, row, tiles
            tiles += size // each // (_THREADS * _VECTORS) + 1
        self._launch.count, self._launch.tiles = len(parts), tiles
        (status,) = driver.cuLaunchKernel(
            self._kernels.functions[dtype], min(tiles, self._blocks), 1, 1, _THREADS, 1, 1,
            self._kernels.shared_bytes,
            torch.cuda.current_stream(self._device).cuda_stream, ctypes.addressof(self._arguments), 0,
        )  # fmt: skip
        if int(status) != 0:
            raise RuntimeError(f"CUDA: counting failed: {status}")


def _parts(row: int, x: Tensor) -> Iterator[tuple[int, int, int]]:
    """Row, address and elements of stretches of a tensor that a launch can count in 32 bits."""
    for start in range(0, x.numel(), _MOST):
        yield row, x.data_ptr() + start * x.element_size(), min(x.numel() - start, _MOST)


def device_sweep(counts: Tensor, exponents: Tensor, maxima: Tensor) -> DeviceSweep | None:
    """A sweep into these rows, or None where NVRTC or its bindings are missing (torch's operators then do the same)."""
    kernels = _compiled(counts.device.index or 0)
    return None if kernels is None else DeviceSweep(counts, exponents, maxima, kernels)


def supported(x: Tensor) -> bool:
    """Whether `x` can be counted as it lies in memory."""
    return x.dtype in _COUNTED and x.data_ptr() % _VECTOR_BYTES == 0


def dense(x: Tensor) -> Tensor:
    """`x` itself where its elements fill a stretch of memory in some order (channels-last too), else a copy."""
    if x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


@functools.cache
def _compiled(device: int) -> _Kernels | None:
    try:
        from cuda.bindings import driver
    except ImportError:
        return None
    torch.zeros(1, device=f"cuda:{device}")
    optin = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    status, handle = driver.cuDeviceGet(device)
    status, most = driver.cuDeviceGetAttribute(optin, handle)
    copies = next((n for n in _COPIES if int(status) == 0 and n * _COPY_BYTES + 1024 <= most), _COPIES[-1])
    defines = {"THREADS": _THREADS, "VECTORS": _VECTORS, "COPIES": copies, "JOBS": JOBS}
    found = compiled((_SOURCE,), ("sweep",), device, defines)
    if found is None:
        return None
    shared_bytes = max(copies * _COPY_BYTES, 8 * BINS)
    dynamic = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    functions = {dtype: function for (_, dtype), function in found.items()}
    for function in functions.values():
        (status,) = driver.cuFuncSetAttribute(function, dynamic, shared_bytes)
        if int(status) != 0:
            return None
    return _Kernels(functions, shared_bytes)


def fresh_rows(rows: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, exponents and maxima of `rows` tensors that nothing has been counted into."""
    return (
        torch.zeros(rows, BINS, dtype=torch.int64, device=device),
        torch.full((rows,), MIN_EXPONENT, dtype=torch.int32, device=device),
        torch.zeros(rows, device=device),
    )
