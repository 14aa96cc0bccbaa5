"""Inner tensors of an ONNX network where a torch device has them: onnxruntime writes into memory of torch, nothing is
copied to the host.

Order on a GPU, by onnxruntime's documentation (CUDA-ExecutionProvider, `user_compute_stream`; api_summary, "Data on
device"; OrtApi::SynchronizeBoundInputs and Outputs) and its maintainers (microsoft/onnxruntime issues 7225, 15438,
28539): what is copied for a run, by torch or for an input that is bound on the host, `synchronize_inputs` waits for, as
for all else on the card (CUDAExecutionProvider::Sync); kernels of a run go into one stream, and at its end the host
waits for that stream, so `synchronize_outputs` finds nothing to wait for. These are the host's waits, two a batch; the
second could be left out (`disable_synchronize_execution_providers`), but for outputs of operators that a CPU computes.
What torch counts afterwards must be done before the next run writes into the same memory; so the stream of the run is
torch's own (`user_compute_stream`), and order in it is enough, whatever the host waits for. It is a stream of this
object: torch's default stream has handle 0, which onnxruntime takes for none.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
import torch.utils.dlpack
from numpy.typing import NDArray
from torch import Tensor

from quantbench.calibration.ort_outputs import Feed, images_of, padded, static_batch, unpadded_shape
from quantbench.errors import QuantbenchError
from quantbench.ort import create_session, run_bound
from quantbench.ort_cuda import CUDA, cuda_session, quiet
from quantbench.runnable import runnable_part

if TYPE_CHECKING:
    import onnxruntime

# Of what torch does not type.
_STREAM: Any = torch.cuda.Stream
_FROM_DLPACK: Any = torch.utils.dlpack.from_dlpack
# What is bound with memory of torch, by onnxruntime's name of its type; of other types onnxruntime takes the memory.
_TYPES: dict[str, tuple[torch.dtype, type[np.generic]]] = {
    "tensor(float)": (torch.float32, np.float32),
    "tensor(float16)": (torch.float16, np.float16),
    "tensor(double)": (torch.float64, np.float64),
    "tensor(int64)": (torch.int64, np.int64),
    "tensor(int32)": (torch.int32, np.int32),
}
_UPLOADED = tuple(np.dtype(element) for _, element in _TYPES.values())


def new_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream of a card, none of whose handles is 0."""
    made: torch.cuda.Stream = _STREAM(device)
    return made


class DeviceTensors:
    """A session of the network on a torch device, cpu or a card, that yields `tensors`.

    For the first batch of a shape onnxruntime takes the memory, which tells the shapes of the tensors; from the next
    one on it writes into memory of torch, the same until a batch has another shape. A batch smaller than a static batch
    dimension is padded by repetition and the padding cut off again.
    """

    def __init__(
        self, model: onnx.ModelProto, tensors: Sequence[str], device: torch.device, *, threads: int = 0
    ) -> None:
        """Raises QuantbenchError, in one line, where onnxruntime cannot compute on `device` or refuses the model."""
        self._device, self._number = device, device.index or 0
        self._batch = static_batch(model)
        inputs = {value.name for value in model.graph.input}
        self._given = [name for name in tensors if name in inputs]
        self._inner = [name for name in tensors if name not in inputs]
        self._stream: torch.cuda.Stream | None = new_stream(device) if device.type == "cuda" else None
        self._session, self._waits = self._opened(runnable_part(model), threads)
        self._shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        self._sizes: list[tuple[str, tuple[int, ...]]] = []
        self._binding: Any = None
        self._memory: dict[str, Tensor] = {}
        self._values_decide = False

    def _opened(self, model: onnx.ModelProto, threads: int) -> "tuple[onnxruntime.InferenceSession, bool]":
        """The session, and whether a run must wait for what torch is counting."""
        if self._stream is None:
            return create_session(model, threads=threads, outputs=self._inner), False
        handle = self._stream.cuda_stream
        session = cuda_session(model, self._number, handle, outputs=self._inner)
        return session, session.get_provider_options()[CUDA].get("user_compute_stream") != str(handle)

    @contextlib.contextmanager
    def in_stream(self) -> Iterator[None]:
        """Within it torch's kernels go into the stream of the runs."""
        with contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            yield

    def run(self, feed: Feed) -> list[tuple[str, Tensor]]:
        """Each of the tensors for one batch, on the device; the next run may write over them. To be called, and its
        result to be read, within `in_stream`. Raises QuantbenchError where onnxruntime fails on the batch."""
        count = images_of(feed)
        full = {name: np.ascontiguousarray(array) for name, array in padded(feed, self._batch).items()}
        uploaded = {
            name: self._uploaded(array) for name, array in full.items() if array.dtype in _UPLOADED and array.size
        }
        found = []
        for name in self._given:
            tensor = uploaded[name] if name in uploaded else self._uploaded(full[name])
            found.append((name, tensor if full[name].shape == feed[name].shape else tensor[: len(feed[name])]))
        if self._waits and self._stream is not None:
            self._stream.synchronize()
        if not self._inner:
            return found
        for name, tensor in zip(self._inner, self._outputs(full, uploaded), strict=True):
            shape = unpadded_shape(tensor.shape, self._batch, count)
            found.append((name, tensor[: shape[0]] if shape else tensor))
        return found

    def _uploaded(self, array: NDArray[Any]) -> Tensor:
        """`array` on the device, once for the network and for counting: on an H100 a second copy took as long as a
        forward pass of ResNet-18. To a card by way of memory that it reads itself."""
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        if self._stream is None:
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _outputs(self, feed: Feed, uploaded: Mapping[str, Tensor]) -> list[Tensor]:
        shapes = {name: (array.shape, array.dtype.str) for name, array in feed.items()}
        if shapes == self._shapes and not self._values_decide:
            self._binding = self._binding or self._in_memory()
            try:
                return self._run(self._binding, feed, uploaded)
            except QuantbenchError:
                # As many boxes as there are in a batch, say. What else is wrong is told by the run that follows.
                self._values_decide = True
        self._binding, self._memory = None, {}
        binding = self._session.io_binding()
        for name in self._inner:
            binding.bind_output(name, self._device.type, self._number)
        found = self._run(binding, feed, uploaded)
        self._shapes = shapes
        self._sizes = [(value.data_type(), tuple(value.shape())) for value in binding.get_outputs()]
        return found

    def _in_memory(self) -> Any:
        """A binding of outputs of the known sizes to memory of torch, where torch and numpy have their type."""
        binding = self._session.io_binding()
        for name, (kind, shape) in zip(self._inner, self._sizes, strict=True):
            if kind in _TYPES and all(shape):
                dtype, element = _TYPES[kind]
                self._memory[name] = torch.empty(shape, dtype=dtype, device=self._device)
                pointer = self._memory[name].data_ptr()
                binding.bind_output(name, self._device.type, self._number, element, shape, pointer)
            else:
                binding.bind_output(name, self._device.type, self._number)
        return binding

    def _run(self, binding: Any, feed: Feed, uploaded: Mapping[str, Tensor]) -> list[Tensor]:
        for name, array in feed.items():
            if name in uploaded:
                pointer, shape = uploaded[name].data_ptr(), array.shape
                binding.bind_input(name, self._device.type, self._number, array.dtype.type, shape, pointer)
            else:
                binding.bind_cpu_input(name, array)
        binding.synchronize_inputs()
        with contextlib.nullcontext() if self._stream is None else quiet():
            run_bound(self._session, binding)
        binding.synchronize_outputs()
        if len(self._memory) == len(self._inner):
            return list(self._memory.values())
        values = zip(self._inner, binding.get_outputs(), strict=True)
        return [self._memory[name] if name in self._memory else self._tensor_of(value) for name, value in values]

    def _tensor_of(self, value: Any) -> Tensor:
        """What onnxruntime holds, not copied where it can hand it over (1.21 and newer), else by way of the host."""
        held = value._ortvalue
        if hasattr(held, "to_dlpack"):
            made: Tensor = _FROM_DLPACK(held.to_dlpack())
            return made
        return torch.from_numpy(value.numpy()).to(self._device)
