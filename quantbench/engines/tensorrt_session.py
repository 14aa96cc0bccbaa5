"""An engine loaded on a GPU: contexts with their own stream and buffers, arrays in, arrays out."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.engines.build_log import BuildLog
from quantbench.engines.device import Buffer, Device, Graph
from quantbench.engines.shapes import spelled
from quantbench.engines.tensorrt_common import load_plugins, make_logger
from quantbench.errors import QuantbenchError

# "… In throwUnlessSupported at /_src/runtime/x.cpp:780)"
_SOURCE = re.compile(r" In \S+ at \S+:\d+\)?$")
_LONGEST = 400
_TITLES = {
    "tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX", "tensorrt_lean": "TensorRT's lean runtime",
    "tensorrt_dispatch": "TensorRT's dispatch runtime",
}  # fmt: skip
Feed = Mapping[str, NDArray[Any]]


class LoadedEngine:
    """A deserialized engine. `trt` is tensorrt (10, 11) or tensorrt_rtx: their runtimes are spelled alike."""

    def __init__(
        self, trt: Any, engine: bytes, device: Device, *, host_code: bool = False, plugins: Sequence[Path] = ()
    ) -> None:
        """`host_code` allows an engine that brings its own runtime (--version-compatible): it is executed.

        `plugins` are libraries that the engine's layers come from.

        Raises QuantbenchError where the engine is of another version or GPU.
        """
        self.trt, self.device = trt, device
        name = _TITLES.get(trt.__name__, trt.__name__)
        self.title = f"{name} {trt.__version__}"
        self._log = BuildLog("quantbench.run")
        self._logger = make_logger(trt, self._log)
        self._runtime = trt.Runtime(self._logger)
        load_plugins(trt, self._runtime, self._logger, plugins)
        if host_code:
            self._runtime.engine_host_code_allowed = True
        self.engine = self._runtime.deserialize_cuda_engine(engine)
        if self.engine is None:
            raise QuantbenchError(f"{self.title} cannot load the engine: {self.reason(first=True)}")
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        is_input = {name: self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self.inputs = tuple(name for name in names if is_input[name])
        self.outputs = tuple(name for name in names if not is_input[name])

    @property
    def logger(self) -> Any:
        """The trt.ILogger that this engine logs to."""
        return self._logger

    def dtype(self, name: str) -> np.dtype[Any]:
        """numpy type of an input or output; raises QuantbenchError where numpy has none (BF16, FP8)."""
        kind = self.engine.get_tensor_dtype(name)
        try:
            found: np.dtype[Any] = np.dtype(self.trt.nptype(kind))
        except TypeError as error:
            raise QuantbenchError(f"tensor {name} is {kind.name}, which numpy lacks; keep inputs in FP32") from error
        return found

    def profile_for(self, shapes: Mapping[str, tuple[int, ...]], only: int | None = None) -> int:
        """The first optimization profile whose bounds hold `shapes`, one an input; `only` that one, where given.

        Raises QuantbenchError, naming input and bounds, where a rank or size fits none.
        """
        outside = ""
        for index in range(max(self.engine.num_optimization_profiles, 1)) if only is None else (only,):
            misfit = next((m for name in self.inputs if (m := self._misfit(name, shapes[name], index))), "")
            if not misfit:
                return index
            outside = outside or misfit
        raise QuantbenchError(outside)

    def reason(self, *, first: bool = False) -> str:
        """What TensorRT logged as its last (or first) error, in one line."""
        errors = self._log.errors
        if not errors:
            return "no reason given"
        # Without the place in TensorRT's source, which ends its messages.
        text = _SOURCE.sub("", " ".join(errors[0 if first else -1].split()))
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

    def _misfit(self, name: str, shape: tuple[int, ...], profile: int) -> str:
        own = tuple(self.engine.get_tensor_shape(name))
        low = high = own
        if -1 in own:
            bounds = self.engine.get_tensor_profile_shape(name, profile)
            low, high = tuple(bounds[0]), tuple(bounds[2])
        if len(shape) == len(own) and all(a <= d <= b for a, d, b in zip(low, shape, high, strict=True)):
            return ""
        least, most, given = (spelled(s) for s in (low, high, shape))
        takes = least if low == high else f"{least} to {most}"
        return f"input {name} is {given}, but the engine takes {takes}" + (f" (profile {profile})" if -1 in own else "")

    def opt_shape(self, name: str, profile: int = 0) -> tuple[int, ...]:
        """Shape of an input: its own, or the opt shape of that profile where it is dynamic."""
        shape = tuple(self.engine.get_tensor_shape(name))
        return tuple(self.engine.get_tensor_profile_shape(name, profile)[1]) if -1 in shape else shape

    def context(self, *, profiler: Any = None, profile: int | None = None) -> "Context":
        """A new context; with `profiler` (a trt.IProfiler) every call reports its layers; with `profile` it keeps to
        that optimization profile, else it takes the first that fits.

        Raises QuantbenchError where the engine has no such profile.
        """
        count = max(self.engine.num_optimization_profiles, 1)
        if profile is not None and not 0 <= profile < count:
            raise QuantbenchError(f"the engine has {count} optimization profiles (0 to {count - 1}), no {profile}")
        return Context(self, profiler, profile)

    def output_allocator(self) -> "OutputAllocator":
        """A new allocator for an output whose shape only the data tell."""
        return OutputAllocator(self.trt, self.device)


class Context:
    """One execution context on a stream of its own. Call `load`, then `enqueue` and `fetch` as often as you like."""

    def __init__(self, loaded: LoadedEngine, profiler: Any, profile: int | None = None) -> None:
        self._loaded = loaded
        self.context = loaded.engine.create_execution_context()
        if self.context is None:
            raise QuantbenchError(f"TensorRT made no execution context: {loaded.reason()}")
        if profiler is not None:
            self.context.profiler = profiler
        self.stream = loaded.device.stream()
        self._buffers: dict[str, Buffer] = {}
        self._host: dict[str, NDArray[Any]] = {}
        self._graph: Graph | None = None
        self._profile = profile
        self._allocators: dict[str, OutputAllocator] = {}

    def load(self, feed: Feed) -> None:
        """Copy `feed` to page-locked memory, set shapes and addresses and make room for the outputs.

        A captured graph stays where shapes and addresses do. No work may be left in the stream.
        Raises QuantbenchError where an input is missing or its shape or type does not fit.
        """
        loaded = self._loaded
        arrays = {name: self._array(name, feed) for name in loaded.inputs}
        profile = loaded.profile_for({name: array.shape for name, array in arrays.items()}, self._profile)
        if profile != self.context.active_optimization_profile:
            self._graph = None
            if not self.context.set_optimization_profile_async(profile, self.stream.handle):
                raise QuantbenchError(f"TensorRT refused optimization profile {profile}: {loaded.reason()}")
            self.stream.synchronize()
        for name, array in arrays.items():
            if not self.context.set_input_shape(name, array.shape):
                raise QuantbenchError(f"TensorRT refused shape {array.shape} of input {name}: {loaded.reason()}")
            self._bind(name, array.shape)
            np.copyto(self._host[name], array, casting="same_kind")
        for name in loaded.outputs:
            shape = tuple(self.context.get_tensor_shape(name))
            if -1 not in shape:
                self._bind(name, shape)
            elif name not in self._allocators:
                self._allocators[name] = loaded.output_allocator()
                if not self.context.set_output_allocator(name, self._allocators[name].trt_object):
                    raise QuantbenchError(f"TensorRT refused an allocator of output {name}: {loaded.reason()}")

    def send(self) -> None:
        """Put the copies of all inputs into the stream."""
        for name in self._loaded.inputs:
            self._loaded.device.upload(self._buffers[name], self._host[name], self.stream)

    def enqueue(self) -> None:
        """Put one inference into the stream, as a graph once `capture` was called."""
        if self._graph is not None:
            self._graph.launch(self.stream)
        elif not self.context.execute_async_v3(self.stream.handle):
            raise QuantbenchError(f"TensorRT could not enqueue the inference: {self._loaded.reason()}")

    def capture(self) -> None:
        """Record the inference as a CUDA graph. It works on the buffers of `load`, whatever is sent there later.

        Raises QuantbenchError where the engine cannot be captured.
        """
        self._graph = None
        if self._allocators:
            names = ", ".join(self._allocators)
            raise QuantbenchError(f"the shape of {names} depends on data, which no CUDA graph holds; no --cuda-graph")
        # TensorRT wants one plain run before: the first one sets up what a graph cannot hold.
        self.enqueue()
        self.stream.synchronize()
        self._graph = self._loaded.device.capture(self.stream, self.enqueue)

    def fetch(self) -> None:
        """Put the copies of all outputs into the stream. Those whose shape depends on data have it by now: TensorRT
        tells it before its `enqueue` returns."""
        device = self._loaded.device
        for name in self._loaded.outputs:
            allocator = self._allocators.get(name)
            if allocator is None:
                device.download(self._host[name], self._buffers[name], self.stream)
                continue
            host = self._host.get(name)
            if host is None or host.shape != allocator.shape:
                host = self._host[name] = device.host_array(allocator.shape, self._loaded.dtype(name))
            if allocator.buffer is not None and host.nbytes:
                device.download(host, allocator.buffer, self.stream)

    def run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Arrays to arrays, waiting for the result; the arrays are the caller's to keep."""
        self.load(feed)
        self.send()
        self.enqueue()
        self.fetch()
        self.stream.synchronize()
        return {name: self._host[name].copy() for name in self._loaded.outputs}

    def _array(self, name: str, feed: Feed) -> NDArray[Any]:
        if name not in feed:
            raise QuantbenchError(f"the engine wants input {name}; given are {', '.join(feed) or 'none'}")
        array, dtype = np.asarray(feed[name]), self._loaded.dtype(name)
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise QuantbenchError(f"input {name} is {array.dtype}, but the engine takes {dtype}")
        return array

    def _bind(self, name: str, shape: tuple[int, ...]) -> None:
        device, dtype = self._loaded.device, self._loaded.dtype(name)
        host = self._host.get(name)
        if host is not None and host.shape == shape and host.dtype == dtype:
            return
        self._graph = None
        self._host[name] = host = device.host_array(shape, dtype)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < host.nbytes:
            buffer = self._buffers[name] = device.allocate(host.nbytes)
        if not self.context.set_tensor_address(name, buffer.pointer):
            raise QuantbenchError(f"TensorRT refused the buffer of {name}: {self._loaded.reason()}")


class OutputAllocator:
    """Memory for one output whose size TensorRT tells while it runs (NonZero, non-maximum suppression)."""

    def __init__(self, trt: Any, device: Device) -> None:
        self.buffer: Buffer | None = None
        self.shape: tuple[int, ...] = ()
        self._device = device
        # Made by type(): the base class is only known at run time.
        base = trt.IOutputAllocator
        members = {
            "__init__": lambda this: base.__init__(this),
            "reallocate_output": lambda this, name, memory, size, alignment: self.address_of(size),
            "reallocate_output_async": lambda this, name, memory, size, alignment, stream: self.address_of(size),
            "notify_shape": lambda this, name, shape: self.is_shaped(tuple(shape)),
        }
        self.trt_object = type("Allocator", (base,), members)()

    def address_of(self, size: int) -> int:
        """Address of at least `size` bytes (CUDA's own alignment exceeds what TensorRT asks for); 0 where there is too
        little memory."""
        if self.buffer is None or self.buffer.nbytes < size:
            try:
                self.buffer = self._device.allocate(max(size, 1))
            except QuantbenchError:
                return 0
        return self.buffer.pointer

    def is_shaped(self, shape: tuple[int, ...]) -> None:
        """The shape of this call."""
        self.shape = shape
