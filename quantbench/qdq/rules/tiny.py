"""Leave tiny convs in float: TensorRT pads INT8 channels to 4 or 32, and a DFL-like conv has one.

Source: NVIDIA, TensorRT Developer Guide, "Optimizing for Tensor Cores" (INT8 wants multiples of 16 channels).
"""

from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import CONVS, out_channels
from quantbench.qdq.options import PlacementOptions


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Keep convs with fewer than `tiny_channels` output channels in float."""
    for node in view.nodes:
        if node.op in CONVS:
            channels = out_channels(view, node)
            if channels is not None and channels < options.tiny_channels:
                draft.kept_float.setdefault(node.name, f"tiny: {channels} output channels")
