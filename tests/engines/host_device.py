"""Host memory in place of a GPU: a `Device` whose addresses are real and whose streams are done at once."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.engines.device import check_c_ordered


class Buffer:
    def __init__(self, nbytes: int) -> None:
        self.memory = np.zeros(max(nbytes, 1), np.uint8)
        self.pointer, self.nbytes = int(self.memory.ctypes.data), nbytes


class Stream:
    handle = 7

    def synchronize(self) -> None:
        pass

    def done(self) -> bool:
        return True


class Event:
    count = 0.0

    def record(self, stream: Any) -> None:
        Event.count += 1.0
        self.at = Event.count

    def milliseconds_since(self, earlier: Any) -> float:
        return float(self.at - earlier.at)


class Graph:
    """Does its work again at each launch, as a graph does."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.launches = 0
        self._work = work

    def launch(self, stream: Any) -> None:
        self.launches += 1
        self._work()


class HostDevice:
    name = "host"
    allocate = Buffer
    stream = Stream
    event = Event

    def __init__(self) -> None:
        self.host_arrays = 0

    def host_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        self.host_arrays += 1
        return np.empty(shape, dtype)

    def upload(self, buffer: Any, array: NDArray[Any], stream: Any = None) -> None:
        check_c_ordered(array)
        ctypes.memmove(buffer.pointer, array.ctypes.data, array.nbytes)

    def download(self, array: NDArray[Any], buffer: Any, stream: Any = None) -> None:
        check_c_ordered(array)
        ctypes.memmove(array.ctypes.data, buffer.pointer, array.nbytes)

    def capture(self, stream: Any, work: Any) -> Graph:
        context = work.__self__  # the bound method Context.enqueue, which by then launches the graph itself
        return Graph(lambda: context.context.execute_async_v3(stream.handle))

    def memory(self) -> tuple[int, int]:
        return 1 << 30, 1 << 31
