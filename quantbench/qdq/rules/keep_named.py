"""Keep in float what the user names (recipe `placement.keep_float`, flag `--keep-float`).

Rules:
1. a node whose name matches a pattern stays float
2. a pattern that matches nothing is an error

Before and after:
    x --> Q/DQ --> conv          x --> conv   (named)
"""

from fnmatch import fnmatchcase

from quantbench.errors import QuantbenchError
from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.options import PlacementOptions


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Mark every node whose name matches a pattern. A pattern that matches nothing is a QuantbenchError."""
    for pattern in options.keep_float:
        nodes = (*view.nodes, *(inner.node for inner in view.inner))
        matches = [node for node in nodes if fnmatchcase(node.name, pattern)]
        if not matches:
            example = view.nodes[0].name
            raise QuantbenchError(f"keep_float pattern {pattern!r} matches no node; names look like {example!r}")
        for node in matches:
            draft.kept_float.setdefault(node.name, f"keep_named: matches {pattern!r}")
