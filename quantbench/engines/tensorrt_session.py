"""An engine loaded on a GPU: contexts with their own stream and buffers, arrays in, arrays out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.engines.build_log import BuildLog
from quantbench.engines.device import Buffer, Device, Graph
from quantbench.engines.tensorrt_common import make_logger
from quantbench.errors import QuantbenchError

Feed = Mapping[str, NDArray[Any]]


class LoadedEngine:
    """A deserialized engine. `trt` is tensorrt (10, 11) or tensorrt_rtx: their runtimes are spelled alike."""

    def __init__(self, trt: Any, engine: bytes, device: Device) -> None:
        """Raises QuantbenchError where the engine is of another version or GPU."""
        self.trt, self.device = trt, device
        self._log = BuildLog("quantbench.run")
        self._logger = make_logger(trt, self._log)
        self._runtime = trt.Runtime(self._logger)
        self.engine = self._runtime.deserialize_cuda_engine(engine)
        if self.engine is None:
            reason = " ".join(self._log.errors[0].split()) if self._log.errors else "no reason given"
            raise QuantbenchError(f"TensorRT {trt.__version__} cannot load the engine: {reason[:300]}")
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        is_input = {name: self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self.inputs = tuple(name for name in names if is_input[name])
        self.outputs = tuple(name for name in names if not is_input[name])

    def dtype(self, name: str) -> np.dtype[Any]:
        """numpy type of an input or output; raises QuantbenchError where numpy has none (BF16, FP8)."""
        kind = self.engine.get_tensor_dtype(name)
        try:
            found: np.dtype[Any] = np.dtype(self.trt.nptype(kind))
        except TypeError as error:
            raise QuantbenchError(f"tensor {name} is {kind.name}, which numpy lacks; keep inputs in FP32") from error
        return found

    def opt_shape(self, name: str) -> tuple[int, ...]:
        """Shape of an input: its own, or the opt shape of the first profile where that is dynamic."""
        shape = tuple(self.engine.get_tensor_shape(name))
        return tuple(self.engine.get_tensor_profile_shape(name, 0)[1]) if -1 in shape else shape

    def context(self, *, profiler: Any = None) -> "Context":
        """A new context; with `profiler` (a trt.IProfiler) every call reports its layers."""
        return Context(self, profiler)


class Context:
    """One execution context on a stream of its own. Call `load`, then `enqueue` and `fetch` as often as you like."""

    def __init__(self, loaded: LoadedEngine, profiler: Any) -> None:
        self._loaded = loaded
        self.context = loaded.engine.create_execution_context()
        if self.context is None:
            raise QuantbenchError("TensorRT made no execution context; the GPU has too little free memory")
        if profiler is not None:
            self.context.profiler = profiler
        self.stream = loaded.device.stream()
        self._buffers: dict[str, Buffer] = {}
        self._host: dict[str, NDArray[Any]] = {}
        self._graph: Graph | None = None

    def load(self, feed: Feed) -> None:
        """Set input shapes and addresses for `feed` and make room for the outputs.

        Raises QuantbenchError where an input is missing or its shape is outside the profile.
        """
        loaded = self._loaded
        for name in loaded.inputs:
            if name not in feed:
                raise QuantbenchError(f"the engine wants input {name}; given are {', '.join(feed) or 'none'}")
            array = np.ascontiguousarray(feed[name], loaded.dtype(name))
            if not self.context.set_input_shape(name, array.shape):
                raise QuantbenchError(f"input {name}: shape {array.shape} is outside the engine's profile")
            self._bind(name, array)
        for name in loaded.outputs:
            shape = tuple(self.context.get_tensor_shape(name))
            if -1 in shape:
                raise QuantbenchError(f"output {name} has a shape that depends on data ({shape}); quantbench needs one")
            self._bind(name, np.empty(shape, loaded.dtype(name)))

    def send(self) -> None:
        """Put the copies of all inputs into the stream."""
        for name in self._loaded.inputs:
            self._loaded.device.upload(self._buffers[name], self._host[name], self.stream)

    def enqueue(self) -> None:
        """Put one inference into the stream, as a graph once `capture` was called."""
        if self._graph is not None:
            self._graph.launch(self.stream)
        elif not self.context.execute_async_v3(self.stream.handle):
            raise QuantbenchError("TensorRT could not enqueue the inference")

    def capture(self) -> None:
        """Record the inference as a CUDA graph; TensorRT wants one plain run before."""
        self.enqueue()
        self.stream.synchronize()
        self._graph = self._loaded.device.capture(self.stream, self.enqueue)

    def fetch(self) -> None:
        """Put the copies of all outputs into the stream."""
        for name in self._loaded.outputs:
            self._loaded.device.download(self._host[name], self._buffers[name], self.stream)

    def run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Arrays to arrays, waiting for the result; the arrays are the caller's to keep."""
        self._graph = None
        self.load(feed)
        self.send()
        self.enqueue()
        self.fetch()
        self.stream.synchronize()
        return {name: self._host[name].copy() for name in self._loaded.outputs}

    def _bind(self, name: str, array: NDArray[Any]) -> None:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < array.nbytes:
            buffer = self._buffers[name] = self._loaded.device.allocate(array.nbytes)
        self._host[name] = array
        if not self.context.set_tensor_address(name, buffer.pointer):
            raise QuantbenchError(f"TensorRT refused the buffer of {name}")
