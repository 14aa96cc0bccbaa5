"""What a TensorRT runtime offers, carried out by torch: to run quantbench's GPU session without NVIDIA's libraries.

This module takes the place of `tensorrt` in `LoadedEngine(torch_engine, engine(...), device)`. It has the classes and
methods that quantbench calls, spelled as in the bindings (tests/engines/test_contract.py compares them), and an
`execute_async_v3` that puts a real network into the given stream, reading and writing the given addresses. On
`device="cpu"` the addresses are host memory. It says nothing about TensorRT's own kernels or speed.
"""

import importlib
import json
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np

__version__ = "torch"
MAGIC = b"ftrt"
INPUT, OUTPUT = "image", "logits"
CLASSES = 10
Shape = tuple[int, ...]


class TensorIOMode(IntEnum):
    """Whether a tensor goes in or out."""

    INPUT = 1
    OUTPUT = 2


class DataType(IntEnum):
    """The one type that these engines take and give."""

    FLOAT = 0


def nptype(kind: DataType) -> type:
    """numpy's type for `kind`."""
    return {DataType.FLOAT: np.float32}[kind]


class ILogger:
    """Base of loggers."""


class IProfiler:
    """Base of profilers."""


def engine(
    network: str = "resnet18", *, device: str = "cuda", dtype: str = "float16", size: int = 224,
    profiles: tuple[tuple[int, int, int], ...] = ((1, 8, 64),), capturable: bool = True,
) -> bytes:  # fmt: skip
    """A file for this runtime: `network` is resnet18 or small, random weights of seed 0, `profiles` of the batch."""
    spec = {"network": network, "device": device, "dtype": dtype, "size": size, "profiles": profiles,
            "capturable": capturable}  # fmt: skip
    return MAGIC + json.dumps(spec).encode()


class Runtime:
    """Opens what `engine` made."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
        """The engine, or None, with a line in the log, for other bytes."""
        try:
            return ICudaEngine(json.loads(serialized_engine[len(MAGIC) :]))
        except ValueError as error:
            self._logger.log(1, f"no engine of torch: {error}")
            return None


class ICudaEngine:
    """A network with one input [n, 3, size, size] and one output [n, CLASSES], both FP32."""

    num_io_tensors = 2

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._stages = list(_stages(spec["network"], spec["device"], spec["dtype"]))

    @property
    def num_optimization_profiles(self) -> int:
        """How many ranges of batch sizes there are."""
        return len(self._spec["profiles"])

    def get_tensor_name(self, index: int) -> str:
        """Input first."""
        return (INPUT, OUTPUT)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        """In or out."""
        return TensorIOMode.INPUT if name == INPUT else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        """FP32."""
        return DataType.FLOAT

    def get_tensor_shape(self, name: str) -> Shape:
        """With -1 for the batch."""
        return self._shape(name, -1)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        """Smallest, best and largest."""
        return [self._shape(name, batch) for batch in self._spec["profiles"][profile_index]]

    def create_execution_context(self) -> "IExecutionContext":
        """A context; as TensorRT's it uses profile 0 until told otherwise."""
        return IExecutionContext(self)

    def _shape(self, name: str, batch: int) -> Shape:
        size = self._spec["size"]
        return (batch, 3, size, size) if name == INPUT else (batch, CLASSES)


class IExecutionContext:
    """Runs one engine on the addresses that it is given."""

    def __init__(self, loaded: ICudaEngine) -> None:
        self._engine = loaded
        self._addresses: dict[str, int] = {}
        self._batch = -1
        self.profiler: Any = None
        self.active_optimization_profile = 0

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Choose the range of batch sizes."""
        self.active_optimization_profile = profile_index
        return profile_index < self._engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        """False where the shape is outside the active profile."""
        low, _, high = self._engine.get_tensor_profile_shape(name, self.active_optimization_profile)
        self._batch = shape[0]
        return len(shape) == len(low) and all(a <= d <= b for a, d, b in zip(low, shape, high, strict=True))

    def get_tensor_shape(self, name: str) -> Shape:
        """With the batch that was set."""
        return self._engine._shape(name, self._batch)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Where a tensor lies."""
        self._addresses[name] = memory
        return memory != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Put the network into the stream; with a profiler wait, and report each stage."""
        torch: Any = importlib.import_module("torch")

        image, logits = (_at(self._addresses[n], self.get_tensor_shape(n), self._on_gpu) for n in (INPUT, OUTPUT))
        with torch.inference_mode():
            if not self._on_gpu:
                self._run(image, logits)
                return True
            with torch.cuda.stream(torch.cuda.ExternalStream(stream_handle)):
                self._run(image, logits)
        return True

    @property
    def _on_gpu(self) -> bool:
        return bool(self._engine._spec["device"] == "cuda")

    def _run(self, image: Any, logits: Any) -> None:
        times = []
        value = image
        for name, stage in self._engine._stages:
            clock = _Clock(self._on_gpu, self.profiler is not None)
            value = stage(value)
            times.append((name, clock))
            clock.stop()
        logits.copy_(value)
        if not self._engine._spec["capturable"]:
            # Waiting for the device is what a capture forbids.
            value.sum().item()
        if self.profiler is not None:
            for name, clock in times:
                self.profiler.report_layer_time(name, clock.milliseconds())


class _Clock:
    def __init__(self, on_gpu: bool, wanted: bool) -> None:
        torch: Any = importlib.import_module("torch")

        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if on_gpu and wanted else []
        self._start = time.perf_counter()
        if self._events:
            self._events[0].record()

    def stop(self) -> None:
        self._end = time.perf_counter()
        if self._events:
            self._events[1].record()

    def milliseconds(self) -> float:
        if not self._events:
            return (self._end - self._start) * 1e3
        self._events[1].synchronize()
        return float(self._events[0].elapsed_time(self._events[1]))


class _Memory:
    def __init__(self, protocol: str, address: int, shape: Shape) -> None:
        # Version 2 of CUDA's protocol has no stream to wait for.
        setattr(self, protocol, {"data": (address, False), "shape": shape, "typestr": "<f4", "version": 2})


def _at(address: int, shape: Shape, on_gpu: bool) -> Any:
    """A torch tensor on memory that somebody else owns."""
    torch: Any = importlib.import_module("torch")

    if on_gpu:
        return torch.as_tensor(_Memory("__cuda_array_interface__", address, shape), device="cuda")
    return torch.from_numpy(np.asarray(_Memory("__array_interface__", address, shape)))


def _stages(network: str, device: str, dtype: str) -> Iterator[tuple[str, Any]]:
    """(name, module) in order; the first takes FP32 [n, 3, h, w], the last gives FP32 [n, CLASSES]."""
    torch: Any = importlib.import_module("torch")
    nn = torch.nn

    torch.manual_seed(0)
    parts: list[tuple[str, Any]]
    if network == "resnet18":
        from torchvision.models import resnet18

        net = resnet18(num_classes=CLASSES)
        parts = [("stem", nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool))]
        parts += [(f"layer{i}.{j}", getattr(net, f"layer{i}")[j]) for i in range(1, 5) for j in range(2)]
        parts += [("head", nn.Sequential(net.avgpool, nn.Flatten(), net.fc))]
    else:
        parts = [("conv", nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())),
                 ("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)))]  # fmt: skip
    kind = getattr(torch, dtype)
    yield "cast", lambda x: x.to(kind, memory_format=torch.channels_last)
    for name, part in parts:
        yield name, part.eval().to(device, kind, memory_format=torch.channels_last)
