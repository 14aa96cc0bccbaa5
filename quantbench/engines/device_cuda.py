"""The GPU through cuda-python: light, for machines without torch."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.engines.device import (
    Buffer,
    Device,
    Event,
    Graph,
    Stream,
    check_c_ordered,
    not_capturable,
    out_of_memory,
)
from quantbench.errors import QuantbenchError


def open_device() -> Device | None:
    """The GPU, or None where cuda-python or the driver is missing or there is no GPU."""
    runtime = load_runtime()
    if runtime is None:
        return None
    try:
        status, count = runtime.cudaGetDeviceCount()
    except RuntimeError:  # cuda-python raises it where the driver's library is missing
        return None
    return CudaDevice(runtime) if int(status) == 0 and count > 0 else None


def load_runtime() -> Any:
    """`cuda.bindings.runtime` (cuda-python 12.6 and newer), else the older `cuda.cudart`, else None."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        try:
            from cuda import cudart
        except ImportError:
            return None
        return cudart
    return runtime


def _check(result: tuple[Any, ...], what: str) -> Any:
    """Value of a cuda-python call, which returns (status, value …). Raises QuantbenchError where the status is bad."""
    status, *values = result
    if int(status) != 0:
        raise QuantbenchError(f"CUDA: {what} failed: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)


class CudaBuffer:
    """Memory from cudaMalloc, freed with this object."""

    def __init__(self, runtime: Any, nbytes: int) -> None:
        self._runtime = runtime
        self.nbytes = max(nbytes, 1)
        self.pointer = int(_check(runtime.cudaMalloc(self.nbytes), f"allocating {self.nbytes} bytes"))

    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            self._runtime.cudaFree(self.pointer)


class PinnedMemory:
    """Memory from cudaMallocHost that numpy arrays lie in; freed with the last of them."""

    def __init__(self, runtime: Any, nbytes: int) -> None:
        self._runtime = runtime
        self._pointer = int(_check(runtime.cudaMallocHost(max(nbytes, 1)), f"page-locking {nbytes} bytes"))
        self.__array_interface__ = {
            "data": (self._pointer, False), "shape": (nbytes,), "typestr": "|u1", "version": 3,
        }  # fmt: skip

    def __del__(self) -> None:
        if hasattr(self, "_pointer"):
            self._runtime.cudaFreeHost(self._pointer)


class CudaStream:
    """A cudaStream_t that does not wait for the default stream."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        made = runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking)
        self.handle = int(_check(made, "making a stream"))

    def synchronize(self) -> None:
        """Wait for the stream."""
        _check(self._runtime.cudaStreamSynchronize(self.handle), "waiting for a stream")

    def done(self) -> bool:
        """Ask the stream."""
        result = self._runtime.cudaStreamQuery(self.handle)
        if result[0] == self._runtime.cudaError_t.cudaErrorNotReady:
            return False
        _check(result, "asking a stream")
        return True

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self._runtime.cudaStreamDestroy(self.handle)


class CudaEvent:
    """A cudaEvent_t with timing; goes with CudaStream."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.event = _check(runtime.cudaEventCreate(), "making an event")

    def record(self, stream: Stream) -> None:
        """Stamp `stream`."""
        _check(self._runtime.cudaEventRecord(self.event, stream.handle), "recording an event")

    def milliseconds_since(self, earlier: Event) -> float:
        """GPU time since `earlier`."""
        if not isinstance(earlier, CudaEvent):
            raise TypeError(f"{type(earlier).__name__} belongs to another device library than CudaEvent")
        _check(self._runtime.cudaEventSynchronize(self.event), "waiting for an event")
        return float(_check(self._runtime.cudaEventElapsedTime(earlier.event, self.event), "reading an event"))

    def __del__(self) -> None:
        if hasattr(self, "event"):
            self._runtime.cudaEventDestroy(self.event)


class CudaGraph:
    """An instantiated cudaGraph_t."""

    def __init__(self, runtime: Any, graph: Any) -> None:
        self._runtime = runtime
        self._run = _check(runtime.cudaGraphInstantiate(graph, 0), "instantiating a graph")
        _check(runtime.cudaGraphDestroy(graph), "releasing a graph")

    def launch(self, stream: Stream) -> None:
        """Put the whole graph into `stream`."""
        _check(self._runtime.cudaGraphLaunch(self._run, stream.handle), "launching a graph")

    def __del__(self) -> None:
        if hasattr(self, "_run"):
            self._runtime.cudaGraphExecDestroy(self._run)


class CudaDevice:
    """CUDA's current device."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        number = _check(runtime.cudaGetDevice(), "asking for the device")
        properties = _check(runtime.cudaGetDeviceProperties(number), "reading the device's properties")
        name = properties.name
        self.name: str = name.decode().rstrip("\0") if isinstance(name, bytes) else str(name)

    def allocate(self, nbytes: int) -> Buffer:
        """Device memory."""
        try:
            return CudaBuffer(self._runtime, nbytes)
        except QuantbenchError as error:
            raise out_of_memory(nbytes, self.memory()) from error

    def stream(self) -> Stream:
        """A new stream."""
        return CudaStream(self._runtime)

    def event(self) -> Event:
        """A new event that keeps time."""
        return CudaEvent(self._runtime)

    def host_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Page-locked host memory."""
        memory = np.asarray(PinnedMemory(self._runtime, math.prod(shape) * dtype.itemsize))
        array: NDArray[Any] = memory.view(dtype).reshape(shape)
        return array

    def upload(self, buffer: Buffer, array: NDArray[Any], stream: Stream | None = None) -> None:
        """Copy host to device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(buffer.pointer, _address(array), array.nbytes, kind, stream)

    def download(self, array: NDArray[Any], buffer: Buffer, stream: Stream | None = None) -> None:
        """Copy device to host."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(_address(array), buffer.pointer, array.nbytes, kind, stream)

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Record `work` as a CUDA graph."""
        try:
            return self._capture(stream, work)
        except (RuntimeError, QuantbenchError) as error:
            raise not_capturable(error) from error

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes."""
        free, total = _check(self._runtime.cudaMemGetInfo(), "asking for free memory")
        return int(free), int(total)

    def _capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _check(self._runtime.cudaStreamBeginCapture(stream.handle, mode), "starting a capture")
        try:
            work()
        except BaseException:
            # Also a capture that failed must be ended, or the stream takes no more work.
            self._runtime.cudaStreamEndCapture(stream.handle)
            raise
        return CudaGraph(self._runtime, _check(self._runtime.cudaStreamEndCapture(stream.handle), "ending a capture"))

    def _copy(self, target: int, source: int, nbytes: int, kind: Any, stream: Stream | None) -> None:
        if stream is None:
            _check(self._runtime.cudaMemcpy(target, source, nbytes, kind), "copying")
            # The call returns once ordinary memory is staged; other streams must not see half of it.
            _check(self._runtime.cudaStreamSynchronize(0), "waiting for a copy")
        else:
            _check(self._runtime.cudaMemcpyAsync(target, source, nbytes, kind, stream.handle), "copying")


def _address(array: NDArray[Any]) -> int:
    check_c_ordered(array)
    return int(array.view(np.ndarray).ctypes.data)
