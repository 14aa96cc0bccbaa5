"""Which channels of a network can be scaled without changing what it computes, and which constants then take part.

Every channel that a layer makes gets a variable, its scale: a conv, Linear or norm can give s x in place of x by its
own weights. The variables go through the graph as arrays of their numbers, one an element (axes along which they are
the same have length 1), so that reshapes, transposes, splits and heads of attention need no rules of their own. What
computes f(s x) = s f(x) passes them on (ReLU, pooling, padding with zeros); an Add of two activations makes theirs one;
a layer that reads them can take 1 / s into its weights. Anything else (Sigmoid and so SiLU, h-swish, softmax, a graph
output) pins them to 1, and the reason is kept.

The upper end of a Clip stays where it is: `Site.bounds` say how far its channels may be scaled before it bites, and
they are never scaled down.
"""

from collections.abc import Callable, Mapping

import onnx

from quantbench.folding.by_arithmetic import clip, joins, multiplies, pads, passes, pools, reduces
from quantbench.folding.by_axes import concats, moves, reshapes, splits, transposes
from quantbench.folding.by_layers import NORMS, conv, matrix, norm
from quantbench.folding.channels import Channels
from quantbench.folding.variables import Variables
from quantbench.graph.ops import CONVS, MATRIX
from quantbench.graph.subgraphs import captures
from quantbench.graph.view import GraphView, NodeView

_PASSES = frozenset({"Relu", "LeakyRelu", "PRelu", "Identity", "Dropout", "Abs", "Neg"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize"})
_REDUCES = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"})
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_MOVES = frozenset({"Slice", "Gather", "DepthToSpace", "SpaceToDepth", "Tile"})
_JOINS = frozenset({"Add", "Sub", "Max", "Min", "Sum", "Mean"})


def find_channels(model: onnx.ModelProto, view: GraphView, shapes: Mapping[str, tuple[int, ...]]) -> Channels:
    """The channels of `model` (its `view`); `shapes`: of its tensors for one sample, as a run of it shows them. Tensors
    without a shape there take no scales."""
    walk = Variables(model, view, shapes)
    for node in view.nodes:
        _visit(walk, node)
    return walk.result()


def _visit(walk: Variables, node: NodeView) -> None:
    """Give the outputs of `node` their variables, or pin those of its inputs."""
    given = [name for name in node.inputs if name in walk.ids]
    proto = walk.protos[node.name]
    for name in captures(proto):
        walk.pin(name, f"the body of {node.op} {node.name} reads it")
    work = _WORK.get(node.op, Variables.pin_inputs)
    if node.outputs[0] in walk.shapes and proto.domain in ("", "ai.onnx", "com.microsoft"):
        work(walk, node)
    elif given:
        walk.pin_inputs(node)
    for name in node.outputs:
        if name not in walk.ids and name not in walk.without:
            known = [walk.without[given] for given in node.inputs if given in walk.without]
            walk.without[name] = known[0] if known else f"nothing before {node.name} can scale it"
        if name in walk.outputs:
            walk.pin(name, f"{name} is an output of the network")


def _table() -> dict[str, Callable[[Variables, NodeView], None]]:
    work: dict[str, Callable[[Variables, NodeView], None]] = {}
    for names, function in (
        (CONVS, conv), (MATRIX, matrix), (NORMS, norm), (_PASSES, passes),
        (_POOLS, pools), (("Clip",), clip), (_REDUCES, reduces), (("Pad",), pads),
        (_RESHAPES, reshapes), (("Transpose",), transposes), (_MOVES, moves),
        (("Split",), splits), (("Expand",), passes), (_JOINS, joins),
        (("Mul", "Div"), multiplies), (("Concat",), concats),
    ):  # fmt: skip
        work.update(dict.fromkeys(names, function))
    return work


_WORK = _table()
