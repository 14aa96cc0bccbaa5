"""Values of shape arithmetic, where onnx's own data propagation stops: torch writes the halves of a split as
`Shape, Gather, Add, Div, Mul, Slice`, and onnx knows no Div, so that everything behind has no shape."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import add, mul, sub

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from quantbench.graph.normalise import constant_of

_INTEGERS = (TensorProto.INT64, TensorProto.INT32)


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar or a vector of integers, None for those that are not known."""

    items: tuple[int | None, ...]
    scalar: bool

    @property
    def known(self) -> bool:
        return None not in self.items


def known_values(graph: GraphProto) -> dict[str, Value]:
    """Values of the integer tensors of `graph` (inferred: with value_info) that constants and shapes determine."""
    asked = {node.input[0] for node in graph.node if node.op_type == "Shape"}
    shapes = {v.name: _dims(v) for v in (*graph.input, *graph.value_info, *graph.output) if v.name in asked}
    shapes |= {t.name: tuple(t.dims) for t in graph.initializer if t.name in asked}
    values: dict[str, Value] = {}
    for tensor in graph.initializer:
        values |= _constant(tensor.name, tensor)
    for node in graph.node:
        held = constant_of(node)
        if held is not None:
            values |= _constant(node.output[0], held)
        if node.op_type == "Shape":
            dims = shapes.get(node.input[0])
            if dims is not None:
                start, end = (_attribute(node, name) for name in ("start", "end"))
                values[node.output[0]] = Value(dims[start if start is not None else 0 : end], False)
        elif node.op_type in _OPS and node.output:
            found = _computed(node, values)
            if found is not None:
                values[node.output[0]] = found
    return values


def fold_known(graph: GraphProto) -> bool:
    """Put initializers in the place of nodes whose values are known, in place; False where there was none."""
    values = known_values(graph)
    folded = [
        index
        for index, node in enumerate(graph.node)
        if (node.op_type in _OPS or node.op_type == "Shape") and (v := values.get(node.output[0])) and v.known
    ]
    for index in reversed(folded):
        name = graph.node[index].output[0]
        items = [item for item in values[name].items if item is not None]
        dims = [] if values[name].scalar else [len(items)]
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, dims, items))
        del graph.node[index]
    return bool(folded)


def _constant(name: str, tensor: TensorProto) -> dict[str, Value]:
    """Integers of at most one dimension, as a dictionary of one or none."""
    if tensor.data_type not in _INTEGERS or len(tensor.dims) > 1:
        return {}
    return {name: Value(tuple(numpy_helper.to_array(tensor).reshape(-1).tolist()), not tensor.dims)}


def _computed(node: NodeProto, values: Mapping[str, Value]) -> Value | None:
    inputs = [values.get(name) for name in node.input if name]
    if not inputs or any(value is None for value in inputs):
        return None
    return _OPS[node.op_type](node, [value for value in inputs if value is not None])


def _binary(operation: Callable[[int, int], int | None]) -> Callable[[NodeProto, Sequence[Value]], Value | None]:
    def compute(node: NodeProto, inputs: Sequence[Value]) -> Value | None:
        left, right = inputs
        size = max(len(left.items), len(right.items))
        if any(len(value.items) not in (1, size) for value in inputs):
            return None
        pairs = zip(*(v.items * (size if len(v.items) == 1 else 1) for v in inputs), strict=True)
        items = (None if a is None or b is None else operation(a, b) for a, b in pairs)
        return Value(tuple(items), left.scalar and right.scalar)

    return compute


def _divide(a: int, b: int) -> int | None:
    """Towards zero, as ONNX divides integers, and exact whatever their size; unknown where `b` is zero."""
    if not b:
        return None
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _gather(node: NodeProto, inputs: Sequence[Value]) -> Value | None:
    data, indices = inputs
    if data.scalar or (_attribute(node, "axis") or 0) != 0 or not indices.known:
        return None
    wanted = [i for i in indices.items if i is not None]
    if any(not -len(data.items) <= i < len(data.items) for i in wanted):
        return None
    return Value(tuple(data.items[i] for i in wanted), indices.scalar)


def _concat(node: NodeProto, inputs: Sequence[Value]) -> Value | None:
    if any(value.scalar for value in inputs):
        return None
    return Value(tuple(item for value in inputs for item in value.items), False)


def _unsqueeze(node: NodeProto, inputs: Sequence[Value]) -> Value | None:
    return Value(inputs[0].items, False) if inputs[0].scalar else None


def _squeeze(node: NodeProto, inputs: Sequence[Value]) -> Value | None:
    return Value(inputs[0].items, True) if len(inputs[0].items) == 1 else None


def _slice(node: NodeProto, inputs: Sequence[Value]) -> Value | None:
    """One axis; `axes` may be left out (an empty name) before `steps`, so inputs are taken by their place."""
    given = dict(zip((name for name in node.input if name), inputs, strict=True))
    places = [given.get(name) for name in node.input]
    data, start, end, _, step = [*places, None, None][:5]
    rest = [value for value in places[1:] if value is not None]
    if data is None or start is None or end is None or data.scalar:
        return None
    if any(len(value.items) != 1 or not value.known for value in rest):
        return None
    by = step.items[0] if step is not None else 1
    return Value(data.items[start.items[0] : end.items[0] : by], False) if by else None


def _same(node: NodeProto, inputs: Sequence[Value]) -> Value | None:
    target = _attribute(node, "to")
    return inputs[0] if target is None or target in _INTEGERS else None


_OPS: dict[str, Callable[[NodeProto, Sequence[Value]], Value | None]] = {
    "Add": _binary(add), "Sub": _binary(sub), "Mul": _binary(mul), "Div": _binary(_divide), "Gather": _gather,
    "Concat": _concat, "Unsqueeze": _unsqueeze, "Squeeze": _squeeze, "Slice": _slice, "Cast": _same, "Identity": _same,
}  # fmt: skip


def _attribute(node: NodeProto, name: str) -> int | None:
    return next((a.i for a in node.attribute if a.name == name), None)


def _dims(value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
