"""One scale for all inputs of a Concat, and for both sides of an op that only moves data.

Then a Q behind the Concat splits into equal Qs before it (TensorRT's SplitQAcrossPrecedingFanIn), these merge with
the Qs that other readers of the same tensors have, and the Concat vanishes. With unequal scales each input needs a
requantizing copy (NVIDIA/TensorRT issue 4366: 30 % slower). Movers commute with Q and DQ.

Rules:
1. all inputs of a Concat and its output have one scale
2. both sides of an op that only moves data have one scale

Before and after:
    a [s1] ==> copy ==> Concat [s3]   a [s] ==> (in place)
    b [s2] ==> copy ==/               b [s] ==> (in place)
"""

from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import is_mover
from quantbench.qdq.options import PlacementOptions


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Merge the scale groups of each Concat and each mover, through all of which no arithmetic runs."""
    for node in view.nodes:
        if options.share_concat and node.op == "Concat":
            for name in node.inputs:
                if not view.is_constant(name):
                    draft.share(node.outputs[0], name)
        elif options.share_movers and is_mover(node) and not view.is_constant(node.inputs[0]):
            for out in node.outputs:
                if out:
                    draft.share(node.inputs[0], out)
