"""What running on a GPU needs of a library: buffers, streams, events, graphs. torch or cuda-python provides it."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError


class Buffer(Protocol):
    """Device memory that lives as long as this object."""

    @property
    def pointer(self) -> int:
        """Device address."""
        ...

    @property
    def nbytes(self) -> int:
        """Size."""
        ...


class Stream(Protocol):
    """An ordered queue of GPU work."""

    @property
    def handle(self) -> int:
        """cudaStream_t."""
        ...

    def synchronize(self) -> None:
        """Wait until all its work is done."""
        ...

    def done(self) -> bool:
        """Whether all its work is done, without waiting."""
        ...


class Event(Protocol):
    """A time stamp in a stream."""

    def record(self, stream: Stream) -> None:
        """Stamp when the work that is in `stream` so far is done."""
        ...

    def milliseconds_since(self, earlier: "Event") -> float:
        """GPU time between two recorded events; waits for this one."""
        ...


class Graph(Protocol):
    """Work recorded once and launched as a whole."""

    def launch(self, stream: Stream) -> None:
        """Put the whole graph into `stream`."""
        ...


class Device(Protocol):
    """The current GPU."""

    name: str

    def allocate(self, nbytes: int) -> Buffer:
        """Device memory of at least one byte; raises QuantbenchError where there is too little."""
        ...

    def stream(self) -> Stream:
        """A new stream."""
        ...

    def event(self) -> Event:
        """A new event that keeps time."""
        ...

    def host_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An empty C-ordered array in page-locked host memory.

        Only such memory is copied while the host goes on and at the full speed of the bus: a copy of any other makes
        the host wait and is staged by the driver.
        """
        ...

    def upload(self, buffer: Buffer, array: NDArray[Any], stream: Stream | None = None) -> None:
        """Copy a C-ordered host array into `buffer`, in `stream` or at once; `array` must live until then."""
        ...

    def download(self, array: NDArray[Any], buffer: Buffer, stream: Stream | None = None) -> None:
        """Copy from `buffer` over a C-ordered host array; raises ValueError for another order."""
        ...

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Record what `work` puts into `stream` as a CUDA graph.

        Raises QuantbenchError where `work` does what a graph cannot hold; `stream` is usable again then.
        """
        ...

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes of the GPU's memory."""
        ...


def check_c_ordered(array: NDArray[Any]) -> None:
    """Raise ValueError where `array` does not lie in memory in one piece and in C order."""
    if not array.flags.c_contiguous:
        raise ValueError("device copies need a C-ordered array")


def out_of_memory(nbytes: int, memory: tuple[int, int]) -> QuantbenchError:
    """The line for an allocation on the GPU that failed; `memory` is (free, total) bytes."""
    wanted, free, total = (f"{size / 2**30:.1f} GiB" for size in (nbytes, *memory))
    return QuantbenchError(f"the GPU has no {wanted} left ({free} of {total} free); use a smaller batch")


def not_capturable(error: BaseException) -> QuantbenchError:
    """The line for an inference that cannot become a CUDA graph, with the first of the errors that led to `error`."""
    while error.__context__ is not None:
        error = error.__context__
    reason = str(error).partition("\n")[0]
    return QuantbenchError(f"the inference cannot become a CUDA graph ({reason}); leave out --cuda-graph")


def open_device() -> Device:
    """The GPU through torch if that is installed with CUDA, else through cuda-python.

    Raises QuantbenchError where neither finds a GPU; the line says what to install.
    """
    from quantbench.engines import device_cuda, device_torch

    device = device_torch.open_device() or device_cuda.open_device()
    if device is not None:
        return device
    raise QuantbenchError(
        "no NVIDIA GPU can be reached: neither torch with CUDA nor cuda-python finds one (see 'quantbench doctor')"
    )
