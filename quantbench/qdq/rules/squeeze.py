"""Leave the weighted ops of squeeze-and-excite blocks in float (arXiv:1709.01507).

They work on a pooled vector and end in a Mul that gates the tensor that was pooled. That tensor is read in float by the
gate, so the pooling stays float, and in INT8 each of these ops needs a Q of its own: a kernel that costs far more than
a product of a vector saves. Measured on PP-OCRv6's detector (26 such convs): predicted for TensorRT 13 left-over Q and
as many kernels fewer; TensorRT-RTX compiles 26 kernels fewer and moves 1.5 MB less (docs/placement-compared.md).

Rules:
1. weighted ops between a global average and the Mul that it gates stay float

Before and after:
    pool --> Q --> conv ==> ..       pool --> conv --> act --> conv --> gate
              (4 copies)              (no copy)
"""

from quantbench.graph.ops import AVERAGES, POINTWISE, WEIGHTED
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import is_mover, weight_index
from quantbench.qdq.options import PlacementOptions

_REASON = "squeeze: works on a pooled vector that gates a tensor"


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Keep in float the weighted ops between each global average and the Mul that it gates."""
    if not options.squeeze_float:
        return
    for pool in view.nodes:
        if pool.op in AVERAGES and _is_global(view, pool):
            for name in squeezed(view, pool):
                draft.kept_float.setdefault(name, _REASON)


def squeezed(view: GraphView, pool: NodeView) -> tuple[str, ...]:
    """Weighted ops on the way from `pool` to a Mul with another tensor; () where no such Mul comes."""
    vectors = {pool.outputs[0]}
    weighted: list[str] = []
    gates = False
    for node in view.nodes:
        reads = [name for name in node.inputs if name in vectors]
        if not reads:
            continue
        alone = all(name in vectors or view.is_constant(name) for name in node.inputs if name)
        if node.op in WEIGHTED and weight_index(view, node) is not None:
            weighted.append(node.name)
        elif node.op == "Mul" and not alone:
            gates = True
            continue
        elif not (alone and (node.op in POINTWISE or is_mover(node))):
            continue
        vectors.update(node.outputs)
    return tuple(weighted) if gates else ()


def _is_global(view: GraphView, pool: NodeView) -> bool:
    """Whether `pool` leaves one value a channel."""
    if pool.op == "GlobalAveragePool":
        return True
    pooled = view.tensors.get(pool.outputs[0])
    if pooled is None or pooled.shape is None or len(pooled.shape) not in (2, 4):
        return False
    return all(d == 1 for d in pooled.shape[2:])
