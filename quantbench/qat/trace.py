"""GraphView of a torch model: run it once and write down every torch function it calls, under ONNX names.

torch.fx cannot pass YOLO's C2f (it makes a list of chunks) nor the detect head; torch.export can, but forgets which
line of eager code made a node, and the quantizers go into the eager modules, where ultralytics' trainer and the
user's own code still find everything. So calls are caught where both of these catch them, at `__torch_function__`,
and numbered by module and kind: the same number finds the call again when quantizers run (quantbench.qat.router).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quantbench.graph.ops import BIASED, CONVS
from quantbench.graph.view import GraphView, NodeView, TensorView
from quantbench.qat.attention import open_attention
from quantbench.qat.frames import Frame, module_frames
from quantbench.qat.functions import IDENTITIES, KIND_OPS, OPS, SILU, SITE_KINDS, tensor_arguments


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a quantizer: argument number `argument` of the `ordinal`-th call of `kind` in module `module`."""

    module: str
    kind: str
    ordinal: int
    argument: int


@dataclass(frozen=True, slots=True)
class Trace:
    """The network as plain data, where each node input sits in the eager code, and (conv, batch norm) modules that
    fold into one, and of which parameter (by name, and which rows of it) each constant is made."""

    view: GraphView
    slots: Mapping[tuple[str, int], Slot]
    folds: tuple[tuple[str, str], ...]
    parameters: Mapping[str, tuple[str, tuple[int, int] | None]]


def trace(model: nn.Module, example: Tensor) -> Trace:
    """Run `model` in evaluation mode on `example` ([batch, ...] float32) and return what it did.

    Batch norms behind convs count as folded and dropout as absent, as in an exported model.
    """
    training = model.training
    model.eval()
    open_attention(model)
    try:
        with torch.no_grad(), module_frames(model) as frames:
            recorder = _Recorder(model, frames, example)
            with recorder:
                output = model(example)
    finally:
        model.train(training)
    return recorder.finish(output)


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, frames: list[Frame], example: Tensor) -> None:
        super().__init__()
        self.frames = frames
        self.keep: list[Any] = [example]  # a tensor that died could give its id to another
        self.names: dict[int, str] = {id(example): "input"}
        self.parameters: dict[str, tuple[str, tuple[int, int] | None]] = {
            name: (name, None) for name, _ in model.named_parameters()
        }
        self.storages = {p.untyped_storage().data_ptr(): (name, p) for name, p in model.named_parameters()}
        self.constants = {id(t): name for name, t in (*model.named_parameters(), *model.named_buffers())}
        self.tensors = {"input": TensorView("input", tuple(example.shape))}
        self.nodes: list[NodeView] = []
        self.taken: set[str] = set()
        self.slots: dict[tuple[str, int], Slot] = {}
        self.folds: list[tuple[str, str]] = []
        self.makers: dict[str, tuple[str, str]] = {}  # tensor -> (op, module) that made it
        self.pads: dict[str, tuple[str, Slot]] = {}  # zero-padded tensor -> what was padded, and where
        self.read: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        frame = self.frames[-1] if self.frames else Frame("")
        kind = SITE_KINDS.get(func)
        ordinal = frame.ordinal(kind) if kind else 0
        arguments = tensor_arguments(args, kwargs)
        # In-place calls return their argument: what it was called before the call must be read now.
        inputs = [self._name(a) if isinstance(a, Tensor) else None for a in arguments]
        result = func(*args, **kwargs)
        outputs = [t for t in (result if isinstance(result, (tuple, list)) else [result]) if isinstance(t, Tensor)]
        if outputs and any(n is not None and n not in self.constants.values() for n in inputs) and self._live(inputs):
            self.keep += [*outputs, *(a for a in arguments if isinstance(a, Tensor))]
            self._record(func, kind, ordinal, frame.module, arguments, inputs, outputs)
        return result

    def _live(self, inputs: list[str | None]) -> bool:
        return any(n is not None and not self.tensors[n].constant for n in inputs)

    def _name(self, tensor: Tensor) -> str:
        """Name of a tensor; one never seen before comes from no input, so it is a constant."""
        name = self.names.get(id(tensor))
        if name is None:
            name = self.constants.get(id(tensor), "")
            if not name:
                name = self._rows(tensor) or f"constant_{len(self.tensors)}"
                self.keep.append(tensor)
            self.names[id(tensor)] = name
            dtype = str(tensor.dtype).removeprefix("torch.")
            self.tensors[name] = TensorView(name, tuple(tensor.shape), dtype, constant=True)
        return name

    def _rows(self, tensor: Tensor) -> str:
        """Name of a tensor that is some rows of a parameter (a chunk of it); "" for another one."""
        name, whole = self.storages.get(tensor.untyped_storage().data_ptr(), ("", tensor))
        if not name or tensor.stride() != whole.stride() or tensor.shape[1:] != whole.shape[1:] or not tensor.dim():
            return ""
        first = (tensor.storage_offset() - whole.storage_offset()) // max(whole.stride(0), 1)
        rows = (first, first + tensor.shape[0])
        part = f"{name}[{rows[0]}:{rows[1]}]"
        self.parameters[part] = (name, rows)
        return part

    def _record(
        self, func: Any, kind: str | None, ordinal: int, module: str, arguments: list[Any],
        inputs: list[str | None], outputs: list[Tensor],
    ) -> None:  # fmt: skip
        named = [(i, n) for i, n in enumerate(inputs) if n is not None]
        first = named[0][1]
        if func in IDENTITIES:
            self.names[id(outputs[0])] = first
        elif func is F.batch_norm and self._folds(first):
            self.folds.append((self.makers[first][1], module))
            self.names[id(outputs[0])] = first
        elif func in SILU:
            gate = self._emit("Sigmoid", module, [first], [outputs[0]])
            self._emit("Mul", module, [first, gate], outputs)
        elif kind == "linear":
            self._linear(module, ordinal, inputs, outputs)
        else:
            op = KIND_OPS.get(kind or "") or OPS.get(func) or self._pooling(kind, outputs[0])
            op = op or getattr(func, "__name__", "Unknown").strip("_")
            slots = {i: Slot(module, kind, ordinal, position) for i, (position, _) in enumerate(named) if kind}
            attributes = {"group": _groups(arguments, outputs[0])} if kind == "deconv" else None
            self._emit(op, module, [n for _, n in named], outputs, slots, attributes)
            if kind == "pad" and _pads_zeros(arguments):
                self.pads[self.names[id(outputs[0])]] = (first, slots[0])

    def _folds(self, tensor: str) -> bool:
        return self.makers.get(tensor, ("", ""))[0] in BIASED and tensor not in self.read

    def _pooling(self, kind: str | None, output: Tensor) -> str:
        if kind != "avgpool":
            return ""
        return "GlobalAveragePool" if output.dim() == 4 and output.shape[2:] == (1, 1) else "AveragePool"

    def _linear(self, module: str, ordinal: int, inputs: list[str | None], outputs: list[Tensor]) -> None:
        """Gemm for a matrix, MatMul and Add for more dimensions, as the exporters write it."""
        x, weight, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        assert x is not None
        assert weight is not None
        slots = {i: Slot(module, "linear", ordinal, i) for i in (0, 1)}
        if outputs[0].dim() == 2:
            names = [x, weight] + ([bias] if bias else [])
            self._emit("Gemm", module, names, outputs, slots, {"transB": 1})
            return
        known = self.tensors[weight]
        if known.shape is not None and not weight.endswith("^T"):
            self.tensors[weight + "^T"] = TensorView(weight + "^T", known.shape[::-1], constant=known.constant)
        product = self._emit("MatMul", module, [x, weight + "^T"], outputs, slots)
        if bias:
            self._emit("Add", module, [product, bias], outputs)

    def _emit(
        self, op: str, module: str, inputs: list[str], outputs: list[Tensor],
        slots: Mapping[int, Slot] | None = None, attributes: Mapping[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """Add a node and name its outputs; returns the name of the first."""
        slots = dict(slots or {})
        if op in CONVS and inputs[0] in self.pads:
            # Zero padding belongs to the conv, as exporters write it: Q/DQ goes before it (0 stays 0).
            inputs[0], slots[0] = self.pads[inputs[0]]
        base = f"{self._label(module)}/{op}"
        name, number = base, 0
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        made = []
        for i, tensor in enumerate(outputs):
            out = f"{name}_output_{i}"
            self.names[id(tensor)] = out
            self.tensors[out] = TensorView(out, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            self.makers[out] = (op, module)
            made.append(out)
        self.read.update(inputs)
        self.nodes.append(NodeView(name, op, tuple(inputs), tuple(made), attributes or {}))
        self.slots.update({(name, i): slot for i, slot in slots.items()})
        return made[0]

    def _label(self, module: str) -> str:
        """What to call the place: the caller where a module is shared (ultralytics has one SiLU for all convs)."""
        if len(self.frames) > 1:
            caller = self.frames[-2].module
            if caller and not module.startswith(f"{caller}."):
                return caller
        return module

    def finish(self, output: Any) -> Trace:
        """The Trace, with paddings that only convs read left out."""
        outputs = tuple(self.names[id(t)] for t in output_tensors(output) if id(t) in self.names)
        read = {name for node in self.nodes for name in node.inputs} | set(outputs)
        nodes = tuple(n for n in self.nodes if n.op != "Pad" or n.outputs[0] in read)
        view = GraphView(nodes, self.tensors, ("input",), outputs)
        return Trace(view, self.slots, tuple(self.folds), self.parameters)


def _groups(arguments: list[Any], output: Tensor) -> int:
    """Groups of a transposed conv, whose weight is [C, K/g, ...]."""
    weight = arguments[1]
    return int(output.shape[-weight.dim() + 1]) // int(weight.shape[1])


def _pads_zeros(arguments: list[Any]) -> bool:
    rest = [a for a in arguments[1:] if not isinstance(a, (tuple, list, Tensor)) and a is not None]
    return all(a == "constant" or a == 0 for a in rest)


def output_tensors(value: Any) -> list[Tensor]:
    """Tensors of a model's output, however nested, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for item in value for t in output_tensors(item)] if isinstance(value, (tuple, list)) else []
