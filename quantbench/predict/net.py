"""The simulation's own small mutable graph: ops, tensors, and a record of what the passes did."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE, SWAPS, WEIGHTED, keeps_values
from quantbench.graph.view import TensorView


@dataclass(eq=False, slots=True)
class Op:
    """One layer of the network being optimized.

    `name` is what TensorRT prints for it, `nodes` the ONNX nodes in it, `order` its place in the network. `scale` is
    that of a Q or DQ: equal keys are equal scales. `int8_in`: it took its DQs; `int8_out`: it took a trailing Q.
    `residual`: the tensor of a fused Add; `traits`: what was done to it, keys of `evidence.TRAITS`, which tells which
    log or engine shows each.
    """

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    order: float
    nodes: list[str]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    scale: Hashable = None
    int8_in: bool = False
    int8_out: bool = False
    residual: str = ""
    activation: str = ""
    out_scale: Hashable = None
    constants: list[str] = field(default_factory=list)
    clone_of: str = ""
    traits: list[str] = field(default_factory=list)

    @property
    def out(self) -> str:
        """First output."""
        return self.outputs[0]

    @property
    def is_q(self) -> bool:
        return self.kind == QUANTIZE

    @property
    def is_dq(self) -> bool:
        return self.kind == DEQUANTIZE

    @property
    def short(self) -> str:
        """Q, DQ or the kind."""
        return {QUANTIZE: "Q", DEQUANTIZE: "DQ"}.get(self.kind, self.kind)

    @property
    def weighted(self) -> bool:
        return self.kind in WEIGHTED


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a pass did, as the log would tell it: `what` of fuse, take-q, take-dq, take-residual, inside (of
    Myelin), merge, swap, split, split-dq, cancel, copy, remove, retype; `target` the layer that the pass ran on;
    `others` the layers concerned."""

    name: str
    what: str
    target: str
    others: tuple[str, ...] = ()


class Net:
    """Ops with an index of producers and readers, tensors, constants and the steps taken."""

    def __init__(self, tensors: Mapping[str, TensorView], inputs: Iterable[str], outputs: Iterable[str]) -> None:
        self.tensors: dict[str, TensorView] = dict(tensors)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.constants: set[str] = set()
        self.weights: dict[str, Op] = {}  # tensor of INT8 weights to the op that made it (for names)
        self.folded: set[str] = set()  # float constants that were DQ of constants
        self.steps: list[Step] = []
        self.notes: dict[str, list[str]] = {}  # Q or DQ to traits of its fate
        self._ops: dict[Op, None] = {}
        self._producer: dict[str, Op] = {}
        self._readers: dict[str, list[Op]] = {}

    @property
    def ops(self) -> list[Op]:
        """All ops in network order."""
        return sorted(self._ops, key=lambda op: op.order)

    def of_kind(self, *kinds: str) -> list[Op]:
        """Ops of the given kinds in network order."""
        return [op for op in self.ops if op.kind in kinds]

    def __contains__(self, op: object) -> bool:
        return op in self._ops

    def add(self, op: Op) -> Op:
        """Add `op` and index it."""
        self._ops[op] = None
        for name in op.outputs:
            self._producer[name] = op
        for name in op.inputs:
            self._readers.setdefault(name, []).append(op)
        return op

    def remove(self, op: Op) -> None:
        """Take `op` out; its tensors keep their names."""
        del self._ops[op]
        for name in op.outputs:
            if self._producer.get(name) is op:
                del self._producer[name]
        for name in op.inputs:
            self._readers[name].remove(op)

    def set_input(self, op: Op, index: int, tensor: str) -> None:
        """Let input `index` of `op` read `tensor`."""
        self._readers[op.inputs[index]].remove(op)
        op.inputs[index] = tensor
        self._readers.setdefault(tensor, []).append(op)

    def add_input(self, op: Op, tensor: str) -> None:
        """Append `tensor` to the inputs of `op`."""
        op.inputs.append(tensor)
        self._readers.setdefault(tensor, []).append(op)

    def set_output(self, op: Op, tensor: str) -> None:
        """Let `op` write `tensor` as its first output."""
        self.rename_output(op, 0, tensor)

    def rename_output(self, op: Op, index: int, tensor: str) -> None:
        """Let `op` write `tensor` as its output `index`; readers of the old one keep reading that."""
        if self._producer.get(op.outputs[index]) is op:
            del self._producer[op.outputs[index]]
        op.outputs[index] = tensor
        self._producer[tensor] = op

    def redirect(self, old: str, new: str) -> None:
        """Let all readers of `old` read `new`."""
        for op in list(self._readers.get(old, ())):
            for index, name in enumerate(op.inputs):
                if name == old:
                    self.set_input(op, index, new)

    def producer(self, tensor: str) -> Op | None:
        """The op that writes `tensor`, None for inputs and constants."""
        return self._producer.get(tensor)

    def readers(self, tensor: str) -> list[Op]:
        """Ops that read `tensor`, in network order, each once for every input that reads it."""
        return sorted(self._readers.get(tensor, ()), key=lambda op: op.order)

    def only_reader(self, tensor: str) -> Op | None:
        """The one op that reads `tensor`; None if there are several or the network returns it."""
        found = self._readers.get(tensor, ())
        return found[0] if len(found) == 1 and tensor not in self.outputs else None

    def absorb(self, op: Op, follower: Op, name: str | None = None) -> None:
        """`follower`, the only reader of `op`, goes into `op`, which takes over its output and ONNX nodes."""
        self.remove(follower)
        self.set_output(op, follower.out)
        op.nodes.extend(follower.nodes)
        if name is not None:
            op.name = name

    def step(self, name: str, what: str, target: str, *others: str) -> None:
        """Record what a pass did."""
        self.steps.append(Step(name, what, target, others))

    def note(self, name: str, trait: str) -> None:
        """Note a trait of the fate of a Q or DQ."""
        known = self.notes.setdefault(name, [])
        if trait not in known:
            known.append(trait)

    def shape(self, tensor: str) -> tuple[int | str | None, ...] | None:
        """Shape of `tensor` as far as it is known."""
        view = self.tensors.get(tensor)
        return view.shape if view is not None else None

    def same_shape(self, first: str, second: str) -> bool:
        """Whether two tensors have one shape as far as it is known: an unknown size fits any."""
        a, b = self.shape(first), self.shape(second)
        if a is None or b is None:
            return True
        sizes = zip(a, b, strict=True) if len(a) == len(b) else [(0, 1)]
        return all(x == y or not isinstance(x, int) or not isinstance(y, int) for x, y in sizes)

    def like(self, new: str, old: str) -> None:
        """Give tensor `new` the shape and dtype of `old`."""
        view = self.tensors.get(old)
        if view is not None:
            self.tensors[new] = TensorView(new, view.shape, view.dtype)

    def is_mover(self, op: Op) -> bool:
        """Whether Q and DQ move past `op`: what the operator table says of its kind, with two conditions.

        Resize in nearest mode only (`keeps_values`). Pad of the last two of four dimensions with zeros, which zero
        points of 0 keep (TREx's RTX-3090 TensorFlow resnet-qat engine: past pool1_pad, not past the NHWC conv1_pad).
        """
        if op.kind == "Pad":
            before, after = self.shape(op.inputs[0]), self.shape(op.out)
            known = before is not None and after is not None and len(before) == 4
            return known and before is not None and after is not None and before[:2] == after[:2]
        return op.kind in SWAPS and keeps_values(op.kind, op.attributes)
