"""Leave in float what runs in loops and branches: recurrent layers, and weighted ops in bodies of If, Loop and Scan.

TensorRT's parser writes an LSTM, GRU or RNN as a loop of matrix products (onnx-tensorrt, onnxOpImporters.cpp: addLoop),
and nothing in it is a Q/DQ pair. Tensors inside a body are no tensors of the model: no session tells their values, so
that they have no ranges.

Rules:
1. an LSTM, GRU or RNN stays float
2. so does a weighted op in a body

Before and after:
    x --> LSTM                         x --> LSTM
    x --> Loop [ y --> conv ]          x --> Loop [ y --> conv ]
"""

from quantbench.graph.ops import RECURRENT, WEIGHTED
from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.options import PlacementOptions

RULE = "loops"


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Name what of `view` runs in loops and branches, so that nobody looks for it in vain."""
    recurrent = [(node, "") for node in view.nodes if node.op in RECURRENT]
    inside = [(inner.node, inner.owner) for inner in view.inner if inner.node.op in WEIGHTED | RECURRENT]
    for node, owner in (*recurrent, *inside):
        why = (
            f"in the body of {owner}, whose tensors have no ranges"
            if owner
            else f"TensorRT runs {node.op} as a loop, in float"
        )
        draft.kept_float.setdefault(node.name, f"{RULE}: {why}")
