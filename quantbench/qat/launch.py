"""Launches of CUDA kernels at little cost to the host: one call of the driver through ctypes, arguments packed by one
call of `struct` (2 us; cuda-bindings with an object for each argument takes 10)."""

import ctypes
import functools
import struct
import sys
import threading
from typing import Any

# As CUlaunchAttribute's header names them: CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END.
_POINTER, _SIZE, _END = 1, 2, 0


class Launch:
    """A kernel whose arguments lie in memory as `form` says (of `struct`, native alignment: P, f, q, I)."""

    def __init__(self, function: int, form: str, threads: int = 256) -> None:
        whole = struct.Struct(form)
        self._pack, self._size, self._threads = whole.pack_into, whole.size, threads
        self._function = ctypes.c_void_p(function)
        self._driver = driver()
        self._local = threading.local()  # a backward pass has a thread of its own

    def __call__(self, blocks: int, stream: int, *arguments: Any) -> None:
        """Launch `blocks` blocks on `stream`. Raises RuntimeError where the driver refuses."""
        try:
            buffer, extra = self._local.ready
        except AttributeError:
            buffer, extra = self._prepare()
        self._pack(buffer, 0, *arguments)
        status = self._driver(self._function, blocks, 1, 1, self._threads, 1, 1, 0, stream, None, extra)
        if status:
            raise RuntimeError(f"CUDA: fake quantization failed: error {status} of the driver")

    def _prepare(self) -> tuple[Any, Any]:
        buffer = ctypes.create_string_buffer(self._size)
        size = ctypes.c_size_t(self._size)
        extra = (ctypes.c_void_p * 5)(_POINTER, ctypes.addressof(buffer), _SIZE, ctypes.addressof(size), _END)
        self._local.ready, self._local.kept = (buffer, extra), size
        return buffer, extra


@functools.cache
def driver() -> Any:
    """cuLaunchKernel. Raises OSError where there is no driver."""
    library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    launch = library.cuLaunchKernel
    launch.argtypes = [ctypes.c_void_p, *[ctypes.c_uint] * 7, *[ctypes.c_void_p] * 3]
    launch.restype = ctypes.c_int
    return launch


def loaded() -> bool:
    """Whether there is a driver to launch with."""
    try:
        driver()
    except (OSError, AttributeError):
        return False
    return True
