"""Leave plugins in float, and all that lies behind one that cannot be run here: nothing there has a range.

A plugin's kernel may take INT8, but only its author knows, so the user says it (`--plugin-precision NAME=int8`), and
its float inputs then get Q/DQ. TensorRT fuses no DQ into a plugin: one that is handed INT8 tensors themselves wants a Q
alone (`NAME=int8-tensor`; NVIDIA/TensorRT issue 3055: with a pair all its formats fell out, with the Q it built).

Rules:
1. weighted ops and Adds behind a plugin that cannot be run stay float
2. a plugin stays float, unless it is named: by `plugin_int8` each of its float inputs gets Q/DQ
3. by `plugin_tensors` each of them gets a Q alone
4. a name that fits no plugin, and an INT8 plugin with an input that has no range, are errors

Before and after:
    x --> plugin --> conv --> y       x --> Q/DQ ==> plugin [named] --> conv --> y
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from quantbench.errors import QuantbenchError
from quantbench.graph.ops import AVERAGES, WEIGHTED
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.options import PlacementOptions

RULE = "plugin"
# What other rules could put Q/DQ before.
_QUANTIZED = WEIGHTED | AVERAGES | {"Add"}


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Keep in float what has no values, quantize the inputs of the plugins that are named."""
    unknown = view.without_values
    for node in view.nodes:
        source = next((unknown[name] for name in node.inputs if name in unknown), None)
        if source is not None and node.op in _QUANTIZED:
            draft.kept_float.setdefault(node.name, f"{RULE}: behind {source}, which cannot be run here: no range")
    for node in _named(view, options.plugin_int8):
        for index in _float_inputs(view, node):
            draft.quantize(node, index, RULE)
    for node in _named(view, options.plugin_tensors):
        if node.name not in view.opaque:
            raise QuantbenchError(
                f"--plugin-precision: {node.name} ({node.op}) runs in onnxruntime, which has it for float tensors "
                f"only; say {node.name}=int8, for Q and DQ before it"
            )
        for index in _float_inputs(view, node):
            draft.quantize_alone(node, index, RULE)


def _float_inputs(view: GraphView, node: NodeView) -> Iterator[int]:
    """Indices of what `node` reads in float and is no constant. Raises QuantbenchError for one without values."""
    for index, name in enumerate(node.inputs):
        if not name or view.is_constant(name) or not _is_float(view, name):
            continue
        if name in view.without_values:
            raise QuantbenchError(
                f"--plugin-precision: {node.name} reads {name}, which lies behind {view.without_values[name]} and has "
                f"no range; leave {node.name} in float"
            )
        yield index


def _named(view: GraphView, patterns: tuple[str, ...]) -> tuple[NodeView, ...]:
    """The plugins that `patterns` mean, by name or operator. Raises QuantbenchError for one that means none."""
    there = [node for node in view.nodes if node.name in view.plugins]
    for pattern in patterns:
        if not any(_fits(node, pattern) for node in there):
            have = ", ".join(f"{node.name} ({node.op})" for node in there[:4])
            raise QuantbenchError(
                f"--plugin-precision {pattern}: the model has {f'no such plugin, but {have}' if there else 'no plugin'}"
            )
    return tuple(node for node in there if any(_fits(node, pattern) for pattern in patterns))


def _fits(node: NodeView, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (node.name, node.op, node.op.rpartition("::")[2]))


def _is_float(view: GraphView, name: str) -> bool:
    known = view.tensors.get(name)
    return known is None or known.dtype.startswith("float")
