"""Products of two activations, such as attention's: float, or with `matmul` INT8 where TensorRT computes them so.

The fused attention of TensorRT takes INT8 for head sizes of 16, 32 and 64 and up to 512 tokens; elsewhere Q and DQ
around the two products are kernels of their own beside a float attention. Source: NVIDIA, TensorRT documentation,
"Transformers: fused attention" (support for INT8). Products with fewer than 16 columns or steps of summation have no
INT8 tensor-core kernel (NVIDIA, Developer Guide, "Optimizing for Tensor Cores": multiples of 16 channels).

What is around the products stays float by what there is no rule for: Q/DQ stands at inputs of weighted ops alone, so
that embeddings, layer norms (fused or in parts), GELU, softmax and rotary positions compute in float, as NVIDIA's
ModelOpt leaves them; the stream is the business of `streams.py`.

Rules:
1. a MatMul of two activations stays float, unless `matmul` is set
2. then its two inputs get Q/DQ, but not where it sums over, or writes, fewer than 16 columns
3. nor in an attention whose head size is not 16, 32 or 64, or of more than 512 tokens

Before and after:
    q, k --> MatMul --> softmax      q Q/DQ, k Q/DQ ==> MatMul --> softmax   (matmul, head of 64)
"""

from quantbench.graph.ops import POINTWISE
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import is_mover, weight_index
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.reach import maker

RULE = "attention"
HEAD_SIZES = (16, 32, 64)
MOST_TOKENS = 512
_LEAST = 16
# Between the scores and their softmax: a scale, a bias, a mask.
_BETWEEN = POINTWISE | {"Where", "Cast"}

_Size = int | None


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Decide for every MatMul without a weight."""
    for node in view.nodes:
        if node.op != "MatMul" or node.name in draft.kept_float or weight_index(view, node) is not None:
            continue
        reason = outside(view, node) if options.matmul else "MatMul of two activations"
        if reason:
            draft.kept_float[node.name] = f"{RULE}: {reason}"
        else:
            draft.quantize(node, 0, RULE)
            draft.quantize(node, 1, RULE)


def outside(view: GraphView, node: NodeView) -> str:
    """Why TensorRT computes the product `node` in float even with Q/DQ before it; "" where nothing known says so."""
    left, right = (_shape(view, name) for name in node.inputs[:2])
    rows, inner = (left[-2], left[-1]) if len(left) > 1 else (None, None)
    inner, columns = (inner or right[-2], right[-1]) if len(right) > 1 else (inner, None)
    head: _Size = None
    tokens: tuple[_Size, ...] = ()
    if is_scores(view, node):
        head, tokens = inner, (rows, columns)
    elif is_weighing(view, node):
        head, tokens = columns, (rows, inner)
    if head is not None and head not in HEAD_SIZES:
        return f"head size {head} is none of {', '.join(map(str, HEAD_SIZES))}"
    longest = max((size for size in tokens if size is not None), default=0)
    if longest > MOST_TOKENS:
        return f"{longest} tokens, over {MOST_TOKENS}"
    for size, what in ((inner, "sums over"), (columns, "writes")):
        if size is not None and size < _LEAST:
            return f"{what} {size} columns, fewer than {_LEAST}"
    return ""


def is_scores(view: GraphView, node: NodeView) -> bool:
    """Whether a softmax reads the product, past a scale, a bias or a mask."""
    queue, seen = [*node.outputs], set(node.outputs)
    while queue:
        for reader, _ in view.readers(queue.pop()):
            if reader.op == "Softmax":
                return True
            if reader.op in _BETWEEN or is_mover(reader):
                found = [out for out in reader.outputs if out not in seen]
                seen.update(found)
                queue.extend(found)
    return False


def is_weighing(view: GraphView, node: NodeView) -> bool:
    """Whether its first operand is a softmax, masked or not."""
    above = [maker(view, node.inputs[0])]
    if above[0] is not None and above[0].op in ("Where", "Cast"):
        above = [maker(view, name) for name in above[0].inputs]
    return any(source is not None and source.op == "Softmax" for source in above)


def _shape(view: GraphView, tensor: str) -> tuple[_Size, ...]:
    known = view.tensors.get(tensor)
    shape = known.shape if known is not None and known.shape is not None else ()
    return tuple(size if isinstance(size, int) else None for size in shape)
