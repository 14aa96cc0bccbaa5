"""Leave tiny convs in float where INT8 would only convert: TensorRT pads INT8 channels to 4 or 32.

Source: NVIDIA, TensorRT Developer Guide, "Optimizing for Tensor Cores" (INT8 wants multiples of 16 channels).

Between INT8 layers it is the float conv that converts: its input stays float beside the INT8 that others read, and what
it writes wants a Q of its own. ESRGAN's dense blocks (convs of 4 channels, whose output a Concat joins to what they
read): 23 predicted kernels become 20, for 0.05 dB. So there it is quantized, along with the others. It is no reason to
quantize a skip connection whose sum it reads: that would save two more kernels and cost 0.25 dB, and is left to
`tiny_anywhere`, which `--placement best` tries (docs/placement-compared.md).

Rules:
1. a conv with fewer than `tiny_channels` output channels stays float before an output, as does the conv of a DFL
2. so does one in mid-network that no INT8 layer feeds, as one behind the input, or whose output no INT8 layer reads, as
   one that gates a tensor
3. between INT8 layers it is quantized, but no Add is for its sake

Before and after:
    conv ==> conv [K=1] --> output     conv --> conv [K=1] --> output
    conv --> conv [K=4] --> conv       conv ==> conv [K=4] ==> conv
"""

from collections.abc import Iterable, Iterator

from quantbench.graph.ops import ACTIVATIONS, AVERAGES, CONVS, POINTWISE
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.heads import heads, is_dfl
from quantbench.qdq.ops import is_mover, out_channels, weight_index
from quantbench.qdq.options import PlacementOptions

RULE = "tiny"
_JOINS = frozenset({"Concat", "Add"})
# A Q behind a Concat is one before it, too.
_SPLIT = frozenset({"Concat"})
# Between what a conv writes and the Q behind it: its activation, a skip connection, an average that computes in INT8.
_TO_THE_NEXT = _JOINS | POINTWISE | AVERAGES


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Keep in float the convs with fewer than `tiny_channels` output channels that gain nothing by INT8."""
    tiny = [node for node in view.nodes if is_tiny(view, node, options) and node.name not in draft.kept_float]
    last = heads(view)
    between: list[NodeView] = []
    for node in tiny:
        if options.for_onnxruntime:
            continue
        if is_dfl(view, node):
            _keep(view, draft, node, "decodes what a softmax gives")
        elif node.name in last:
            _keep(view, draft, node, "before an output")
        else:
            between.append(node)
    if options.tiny_anywhere:
        return
    # One that stays float is no INT8 layer for its neighbours, so until nothing changes.
    while lonely := [(node, why) for node in between if (why := _outside(view, draft, node))]:
        for node, why in lonely:
            _keep(view, draft, node, why)
            between.remove(node)
    draft.along.update(node.name for node in between)


def is_tiny(view: GraphView, node: NodeView, options: PlacementOptions) -> bool:
    """Whether `node` is a conv known to have fewer than `tiny_channels` output channels."""
    channels = out_channels(view, node) if node.op in CONVS else None
    return channels is not None and channels < options.tiny_channels


def _keep(view: GraphView, draft: Draft, node: NodeView, why: str) -> None:
    draft.kept_float.setdefault(node.name, f"{RULE}: {out_channels(view, node)} output channels, {why}")


def _outside(view: GraphView, draft: Draft, node: NodeView) -> str:
    """Why `node` does not stand between INT8 layers; "" where it does."""
    if not _fed(view, draft, node):
        return "and no INT8 layer feeds it"
    if not any(_int8(view, draft, reader, name) for reader, name in _below(view, node.outputs, _TO_THE_NEXT)):
        return "and no INT8 layer reads what it writes"
    return ""


def _int8(view: GraphView, draft: Draft, node: NodeView, tensor: str) -> bool:
    """Whether `node` will be quantized and reads `tensor` as its activation."""
    index = weight_index(view, node)
    return index is not None and node.name not in draft.kept_float and node.inputs[1 - index] == tensor


def _fed(view: GraphView, draft: Draft, node: NodeView) -> bool:
    """Whether the input of `node` is read in INT8 by another layer, or an INT8 layer can write it so: past what goes
    into that layer (activations, scales, biases), Concats and what moves values. Not past an Add of two activations:
    that would have to be quantized for the sake of `node`. Nor where something else wants that input in float: the Q
    would be left over."""
    x = node.inputs[0]
    if any(_int8(view, draft, other, name) for other, name in _below(view, [x], _SPLIT) if other.name != node.name):
        return True
    others = [other for other, _ in view.readers(x) if other.name != node.name]
    if any(other.op not in _JOINS and not is_mover(other) for other in others):
        return False
    queue, seen = [x], {x}
    while queue:
        source = view.producers.get(queue.pop())
        if source is None:
            continue
        if weight_index(view, source) is not None and source.name not in draft.kept_float:
            return True
        found = [name for name in source.inputs if name and not view.is_constant(name)]
        fused = len(found) == 1 and source.op in POINTWISE
        if source.op == "Concat" or is_mover(source) or fused or _gates_itself(view, source):
            queue.extend(name for name in (found[:1] if is_mover(source) else found) if name not in seen)
            seen.update(found)
    return False


def _below(view: GraphView, tensors: Iterable[str], through: frozenset[str]) -> Iterator[tuple[NodeView, str]]:
    """Each node that reads one of `tensors`, or what is made of them by movers and operators of `through`, with the
    tensor. An operator that reads something else, too, is passed only where it joins (Concat, Add)."""
    made = set(tensors)
    for reader in view.nodes:
        read = [name for name in reader.inputs if name in made]
        if not read:
            continue
        yield from ((reader, name) for name in read)
        alone = all(name in made or view.is_constant(name) for name in reader.inputs if name)
        if reader.op in through & _JOINS or (alone and (reader.op in through or is_mover(reader))):
            made.update(reader.outputs)


def _gates_itself(view: GraphView, node: NodeView) -> bool:
    """Whether `node` is x * act(x), as SiLU is written."""
    if node.op != "Mul" or len(node.inputs) != 2:
        return False
    gates = [(view.producers.get(a), b) for a, b in (node.inputs, reversed(node.inputs))]
    return any(g is not None and g.op in ACTIVATIONS and g.inputs[0] == x for g, x in gates)
