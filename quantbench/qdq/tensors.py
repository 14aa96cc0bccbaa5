"""Which tensors are calibrated: those that get Q/DQ, and those that a TensorRT calibration cache needs besides."""

from quantbench.graph.ops import FUSED_SHOWN
from quantbench.graph.view import GraphView
from quantbench.qdq.plan import Plan


def calibrated_tensors(view: GraphView, plan: Plan) -> tuple[str, ...]:
    """Names in graph order: the plan's tensors, network inputs, and every float activation that TensorRT's implicit
    quantization asks a range for. Left out are outputs that only feed what is shown to fuse into the layer before it
    (an activation, a batch norm); a range too many does no harm, one that is missing costs an INT8 layer. What lies
    behind a plugin that cannot be run has no values.
    """
    planned = set(plan.tensors)
    names = dict.fromkeys(view.inputs)
    for node in view.nodes:
        names.update(dict.fromkeys(name for name in node.outputs if name))
    return tuple(name for name in names if name in planned or _wants_range(view, name))


def _wants_range(view: GraphView, name: str) -> bool:
    tensor = view.tensors.get(name)
    if tensor is None or tensor.constant or tensor.dtype != "float32" or name in view.without_values:
        return False
    if name in view.outputs:
        return True
    readers = view.readers(name)
    return bool(readers) and not all(node.op in FUSED_SHOWN for node, _ in readers)
