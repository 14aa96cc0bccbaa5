"""Leave tiny convs in float: TensorRT pads INT8 channels to 4 or 32, and a DFL-like conv has one.

Source: NVIDIA, TensorRT Developer Guide, "Optimizing for Tensor Cores" (INT8 wants multiples of 16 channels).

Rules:
1. a conv with fewer than `tiny_channels` output channels stays float

Before and after:
    x ==> conv [K=1] --> y       x --> conv [K=1] --> y
"""

from quantbench.graph.ops import CONVS
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import out_channels
from quantbench.qdq.options import PlacementOptions


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Keep convs with fewer than `tiny_channels` output channels in float."""
    for node in view.nodes:
        if is_tiny(view, node, options):
            draft.kept_float.setdefault(node.name, f"tiny: {out_channels(view, node)} output channels")


def is_tiny(view: GraphView, node: NodeView, options: PlacementOptions) -> bool:
    """Whether `node` is a conv known to have fewer than `tiny_channels` output channels."""
    channels = out_channels(view, node) if node.op in CONVS else None
    return channels is not None and channels < options.tiny_channels
