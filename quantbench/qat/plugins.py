"""Plugins in a torch model: functions and operators that the export writes as nodes which the ONNX standard lacks.

torch runs them, so that unlike in `quantbench ptq` what is behind one is calibrated and quantized; itself it stays
float. onnxruntime mostly lacks them: the export is compared with torch up to them, at what they read.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket
from torch.overrides import TorchFunctionMode

from quantbench.errors import QuantbenchError
from quantbench.graph.plugins import behind
from quantbench.graph.standard import shown_op
from quantbench.runnable import lacking

Arrays = list[NDArray[np.float32]]
# Those of torch itself, and of what stands beside it in every installation.
_KNOWN = frozenset({"aten", "prim", "prims", "torchvision", "quantized", "_c10d_functional", "c10d", "profiler"})
_APPLY = "apply"


@dataclass
class PluginCalls:
    """Names and tensors, in order, of the calls that may become plugins."""

    names: list[str] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)

    def add(self, name: str, arguments: Sequence[Any]) -> None:
        """One call."""
        self.names.append(name)
        self.tensors += [value for value in arguments if isinstance(value, Tensor)]


class _Seen(TorchFunctionMode):
    """Notes operators of namespaces that are not torch's own."""

    def __init__(self, calls: PluginCalls) -> None:
        super().__init__()
        self._calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if isinstance(func, OpOverload | OpOverloadPacket):
            namespace, name = str(func).split(".")[:2]
            if namespace not in _KNOWN:
                self._calls.add(f"{namespace}::{name}", args)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def functions_called(calls: PluginCalls) -> Iterator[None]:
    """Note each autograd.Function with a `symbolic` (a node of its own in the legacy exporter) that runs meanwhile."""
    original = torch.autograd.Function.__dict__[_APPLY]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(cls, "symbolic") and not cls.__module__.startswith("quantbench."):
            calls.add(cls.__name__, args)
        return original.__func__(cls, *args, **kwargs)

    setattr(torch.autograd.Function, _APPLY, classmethod(apply))
    try:
        yield
    finally:
        setattr(torch.autograd.Function, _APPLY, original)


@contextlib.contextmanager
def plugin_calls() -> Iterator[PluginCalls]:
    """What of all calls meanwhile may be a plugin: functions with a `symbolic`, operators of foreign namespaces."""
    calls = PluginCalls()
    with functions_called(calls), _Seen(calls):
        yield calls


def told(exported: onnx.ModelProto) -> str:
    """One line on the plugins of `exported` that onnxruntime cannot run; "" where there are none."""
    lost = lacking(exported)
    names = ", ".join(dict.fromkeys(map(shown_op, lost)))
    return (
        f"{names}: float; onnxruntime cannot run it, so the export is compared with torch up to there" if lost else ""
    )


def up_to_plugins(exported: onnx.ModelProto, outputs: Arrays, answers: Arrays, calls: PluginCalls) -> Arrays:
    """Of torch's `outputs` and the `calls` that gave them, what belongs to `answers`, those of the runnable part of
    `exported`: outputs that no plugin reaches, then what plugins read. `outputs` where onnxruntime can run all.

    Raises QuantbenchError where nothing of the size of an answer was seen.
    """
    lost = lacking(exported)
    if not lost:
        return outputs
    gone = behind(exported, {node.name for node in lost})
    made = {name for node in exported.graph.node if node.name in gone for name in node.output}
    names = [value.name for value in exported.graph.output]
    found = [array for name, array in zip(names, outputs, strict=False) if name not in made]
    read = [tensor.float().cpu().numpy() for tensor in calls.tensors]
    for answer in answers[len(found) :]:
        place = next((place for place, array in enumerate(read) if array.shape == answer.shape), None)
        if place is None:
            raise QuantbenchError(
                f"what {', '.join(map(shown_op, lost))} reads cannot be compared with torch, where the model calls "
                f"{', '.join(dict.fromkeys(calls.names)) or 'no function of its own'}; export the float model with "
                f"torch.onnx.export and quantize that with 'quantbench ptq'"
            )
        found.append(read.pop(place))
    return found
