"""The GPU through torch: for machines that have torch with CUDA anyway."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

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

_Kind = TypeVar("_Kind")


def open_device() -> Device | None:
    """The GPU, or None where torch is missing or was built without CUDA or finds no GPU."""
    try:
        import torch
    except ImportError:
        return None
    return TorchDevice(torch) if torch.cuda.is_available() else None


class TorchBuffer:
    """A uint8 tensor on the GPU."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.pointer: int = tensor.data_ptr()
        self.nbytes: int = tensor.numel()


class TorchStream:
    """A `torch.cuda.Stream`."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.handle: int = stream.cuda_stream

    def synchronize(self) -> None:
        """Wait for the stream."""
        self.stream.synchronize()

    def done(self) -> bool:
        """Ask the stream."""
        return bool(self.stream.query())


class TorchEvent:
    """A `torch.cuda.Event` with timing; goes with TorchStream."""

    def __init__(self, event: Any) -> None:
        self.event = event

    def record(self, stream: Stream) -> None:
        """Stamp `stream`."""
        self.event.record(_own(stream, TorchStream).stream)

    def milliseconds_since(self, earlier: Event) -> float:
        """GPU time since `earlier`."""
        self.event.synchronize()
        return float(_own(earlier, TorchEvent).event.elapsed_time(self.event))


class TorchGraph:
    """A `torch.cuda.CUDAGraph`."""

    def __init__(self, torch: Any, graph: Any) -> None:
        self._torch, self._graph = torch, graph

    def launch(self, stream: Stream) -> None:
        """Replay in `stream`."""
        with self._torch.cuda.stream(_own(stream, TorchStream).stream):
            self._graph.replay()


class TorchDevice:
    """torch's current CUDA device."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.name: str = torch.cuda.get_device_name()

    def allocate(self, nbytes: int) -> Buffer:
        """Device memory."""
        try:
            return TorchBuffer(self._torch.empty(max(nbytes, 1), dtype=self._torch.uint8, device="cuda"))
        except self._torch.cuda.OutOfMemoryError as error:
            raise out_of_memory(nbytes, self.memory()) from error

    def stream(self) -> Stream:
        """One of torch's 32 streams, in turn."""
        return TorchStream(self._torch.cuda.Stream())

    def event(self) -> Event:
        """A new event that keeps time."""
        return TorchEvent(self._torch.cuda.Event(enable_timing=True))

    def host_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Page-locked host memory."""
        nbytes = math.prod(shape) * dtype.itemsize
        memory = self._torch.empty(max(nbytes, 1), dtype=self._torch.uint8, pin_memory=True)
        array: NDArray[Any] = memory.numpy()[:nbytes].view(dtype).reshape(shape)
        return array

    def upload(self, buffer: Buffer, array: NDArray[Any], stream: Stream | None = None) -> None:
        """Copy host to device."""
        target = _own(buffer, TorchBuffer).tensor[: array.nbytes]
        self._copy(target, self._torch.from_numpy(_bytes(array)), stream)

    def download(self, array: NDArray[Any], buffer: Buffer, stream: Stream | None = None) -> None:
        """Copy device to host."""
        source = _own(buffer, TorchBuffer).tensor[: array.nbytes]
        self._copy(self._torch.from_numpy(_bytes(array)), source, stream)

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Record `work` as a CUDA graph."""
        graph = self._torch.cuda.CUDAGraph()
        try:
            # Of this thread alone, as trtexec does: other threads may allocate meanwhile.
            with self._torch.cuda.graph(
                graph, stream=_own(stream, TorchStream).stream, capture_error_mode="thread_local"
            ):
                work()
        except (RuntimeError, QuantbenchError) as error:
            raise not_capturable(error) from error
        return TorchGraph(self._torch, graph)

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes."""
        free, total = self._torch.cuda.mem_get_info()
        return int(free), int(total)

    def _copy(self, target: Any, source: Any, stream: Stream | None) -> None:
        if stream is None:
            target.copy_(source)
            if target.is_cuda:
                # The call returns once ordinary memory is staged; other streams must not see half of it.
                current = self._torch.cuda.current_stream()
                current.synchronize()
            return
        with self._torch.cuda.stream(_own(stream, TorchStream).stream):
            target.copy_(source, non_blocking=True)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    check_c_ordered(array)
    return array.reshape(-1).view(np.uint8)


def _own(thing: object, kind: type[_Kind]) -> _Kind:
    if not isinstance(thing, kind):
        raise TypeError(f"{type(thing).__name__} belongs to another device library than {kind.__name__}")
    return thing
