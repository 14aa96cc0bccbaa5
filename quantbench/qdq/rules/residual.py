"""Quantize an Add that closes a skip connection as TensorRT can fuse it.

Where a conv ends in the Add, it takes the Add (and a Relu behind it) in, if the other input, the residual one, is
INT8: that one is quantized, the conv branch is not. Without it the trailing Q cannot fuse into the conv. Source:
NVIDIA, Developer Guide, "Q/DQ layer-placement recommendations" (quantize the residual input in skip connections); on
an A100 the ResNet engine went from 1.10 to 0.73 ms (tests/data/artefacts/json/trex_pt_*).

Where something stands between conv and Add (the SiLU of YOLO, a LeakyRelu), no conv takes it in (NVIDIA/TensorRT
issue 3861): it is an elementwise layer of its own, which wants INT8 on both sides (same guide: "non-weighted layers
that have INT8 inputs also require INT8 outputs"; NVIDIA's answer in issue 3542 quantizes both inputs of such an Add).
One DQ alone would be left over (docs/placement-compared.md). From TensorRT 10 on a conv takes SiLU and Add in (same
page): with `silu_residual` such an Add is treated as one that ends in a conv.

Either only where what reads the sum reads it in INT8. Elsewhere (pre-activation networks, whose sums a batch norm or
group norm reads; a SiLU behind the Add; a sum that something else reads in float too) no Q stands behind the Add that
a conv could take in with it: the predictor counts as many kernels or more, and each sum loses accuracy (ResNet-18 with
pre-activation: 10 dB). And never in a stream that a layer norm reads: the sums of transformers and of ConvNeXt hold
channels hundreds of times larger than the others (Dettmers et al., arXiv:2208.07339; NVIDIA's ModelOpt leaves them in
float too). `qdq/guard.py` takes out, after calibration, those whose range turns out as bad.

Rules:
1. where a conv ends in the Add (with `silu_residual` one with its SiLU, too), the other input gets Q/DQ
2. where none does, both inputs get Q/DQ
3. only where the sum is read in INT8, and in no stream that a layer norm reads

Before and after:
    conv --> Add --> Q ==>            conv + Add ==>
    skip ---/                         skip Q/DQ ==/
"""

from quantbench.graph.ops import AFFINE, CONVS, IDENTITIES
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.reach import made_quantized, read_quantized
from quantbench.qdq.rules.streams import normalised_streams

RULE = "residual"
# What goes into the conv before it, so that the conv still ends in the Add: batch norms, and a scale or bias by a
# constant (Paddle writes a conv's bias so).
_FOLDED = IDENTITIES | {"BatchNormalization"}


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Add the sites of each Add of two activations with a common ancestor that comes after quantized convs."""
    if not options.residual or options.for_onnxruntime:
        return
    position = {node.name: i for i, node in enumerate(view.nodes)}
    streams = normalised_streams(view)
    found: dict[str, tuple[NodeView, tuple[int, ...]]] = {}
    # Backwards: whether a sum is read in INT8 depends on what is decided for the Adds behind it.
    for node in reversed(view.nodes):
        if node.op != "Add" or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
            continue
        if node.name in draft.kept_float or any(view.is_constant(name) for name in node.inputs):
            continue
        if node.name in streams:
            draft.refuse(node, RULE, "a layer norm reads its stream")
        elif not read_quantized(view, draft, node.outputs[0]):
            draft.refuse(node, RULE, "its sum is not read in INT8 by all its readers")
        else:
            found[node.name] = node, _inputs(view, draft, options, node, position)
    for node, indices in reversed(found.values()):
        for index in indices:
            draft.quantize(node, index, RULE)


def _inputs(
    view: GraphView, draft: Draft, options: PlacementOptions, add: NodeView, position: dict[str, int]
) -> tuple[int, ...]:
    """Which inputs of `add` get Q/DQ."""
    index = residual_index(view, add, position)
    if index is None:
        draft.refuse(add, RULE, "its inputs have no common ancestor: no skip connection")
        return ()
    branch = add.inputs[1 - index]
    with_silu = options.silu_residual and _silu_of_conv(view, branch)
    if conv_ending_in(view, branch) is None and not with_silu:
        if all(made_quantized(view, draft, name) for name in add.inputs):
            return (0, 1)
        draft.refuse(add, RULE, "no conv ends in it, and not both its inputs come from quantized layers")
        return ()
    if not made_quantized(view, draft, branch):
        draft.refuse(add, RULE, "the conv that ends in it stays float")
        return ()
    return (index, 1 - index) if options.add_both else (index,)


def conv_ending_in(view: GraphView, tensor: str) -> NodeView | None:
    """The conv that writes `tensor`, or whose batch norm or bias does, if nothing else reads it; else None."""
    while len(view.readers(tensor)) == 1 and tensor not in view.outputs:
        node = view.producers.get(tensor)
        if node is None or node.op in CONVS:
            return node
        computed = [name for name in node.inputs if name and not view.is_constant(name)]
        by_constant = node.op in AFFINE and len(computed) == 1 < len(node.inputs)
        if not computed or not (node.op in _FOLDED or by_constant):
            return None
        tensor = computed[0]
    return None


def _silu_of_conv(view: GraphView, tensor: str) -> bool:
    """Whether `tensor` is x * sigmoid(x) of what a conv ends in, and nothing else reads any of it."""
    mul = view.producers.get(tensor)
    if mul is None or mul.op != "Mul" or len(view.readers(tensor)) != 1:
        return False
    gates = [view.producers.get(name) for name in mul.inputs]
    gate = next((node for node in gates if node is not None and node.op == "Sigmoid"), None)
    if gate is None or gate.inputs[0] not in mul.inputs or len(view.readers(gate.inputs[0])) != 2:
        return False
    conv = view.producers.get(gate.inputs[0])
    while conv is not None and conv.op == "BatchNormalization" and len(view.readers(conv.inputs[0])) == 1:
        conv = view.producers.get(conv.inputs[0])
    return conv is not None and conv.op in CONVS


def residual_index(view: GraphView, add: NodeView, position: dict[str, int]) -> int | None:
    """Which input of `add` (0 or 1) is the residual one; None where the two have no common ancestor.

    If one branch alone ends in a conv, it is the conv branch: only its conv can take the Add in. Else the branch with
    the longest path from the lowest common ancestor is. Equal lengths: input 0 is the conv branch.
    """
    left, right = (_ancestors(view, name) for name in add.inputs)
    common = left & right
    if not common:
        return None
    ends = [conv_ending_in(view, name) is not None for name in add.inputs]
    if ends[0] != ends[1]:
        return 1 if ends[0] else 0
    lowest = max(common, key=lambda tensor: position.get(getattr(view.producers.get(tensor), "name", ""), -1))
    lengths = [_longest(view, lowest, name, position) for name in add.inputs]
    return 0 if lengths[0] < lengths[1] else 1


def _ancestors(view: GraphView, tensor: str) -> set[str]:
    """`tensor` and every activation that it depends on."""
    found = {tensor}
    queue = [tensor]
    while queue:
        node = view.producers.get(queue.pop())
        for name in node.inputs if node is not None else ():
            if name and name not in found and not view.is_constant(name):
                found.add(name)
                queue.append(name)
    return found


def _longest(view: GraphView, start: str, end: str, position: dict[str, int]) -> int:
    """Longest path from tensor `start` to tensor `end`, counted in nodes."""
    if start == end:
        return 0
    first = position.get(getattr(view.producers.get(start), "name", ""), -1)
    last = position[view.producers[end].name]
    length = {start: 0}
    for node in view.nodes[first + 1 : last + 1]:
        reached = [length[name] for name in node.inputs if name in length]
        if reached:
            for out in node.outputs:
                length[out] = max(reached) + 1
    return length.get(end, 0)
