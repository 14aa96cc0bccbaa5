"""The NVIDIA GPUs of this machine, asked of the driver's own library (NVML): no package needed, some milliseconds."""

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_NAME_BYTES = 96


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `capability` is CUDA's, (9, 0) for an H200; `memory` in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int

    @property
    def architecture(self) -> str:
        """As compilers spell it: sm90."""
        return f"sm{self.capability[0]}{self.capability[1]}"


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@dataclass(frozen=True, slots=True)
class Driver:
    """NVIDIA's driver and the GPUs that it knows, whatever CUDA_VISIBLE_DEVICES says. Version "": none is here."""

    version: str = ""
    gpus: tuple[Gpu, ...] = ()


def find_driver() -> Driver:
    """Ask the driver; never raises."""
    try:
        nvml = ctypes.CDLL(_LIBRARY)
    except OSError:
        return Driver()
    if nvml.nvmlInit_v2() != 0:
        return Driver()
    try:
        version, count = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_uint()
        nvml.nvmlSystemGetDriverVersion(version, ctypes.c_uint(_NAME_BYTES))
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        gpus = tuple(gpu for index in range(count.value) if (gpu := _read(nvml, index)) is not None)
        return Driver(version.value.decode("ascii", errors="replace"), gpus)
    finally:
        nvml.nvmlShutdown()


def _read(nvml: Any, index: int) -> Gpu | None:
    device, name = ctypes.c_void_p(), ctypes.create_string_buffer(_NAME_BYTES)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), _Memory()
    good = (
        nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) == 0
        and nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(_NAME_BYTES)) == 0
        and nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor)) == 0
        and nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0
    )
    text = name.value.decode("utf-8", errors="replace")
    return Gpu(text, (major.value, minor.value), memory.total) if good else None
