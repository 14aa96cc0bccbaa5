"""Run the placement rules over a network."""

from quantbench.graph.view import GraphView
from quantbench.qdq.draft import Draft
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.plan import Plan
from quantbench.qdq.rules import (
    attention,
    fold,
    head,
    integer,
    keep_named,
    logarithm,
    loops,
    plugin,
    pooling,
    residual,
    share,
    squeeze,
    tiny,
    weighted,
)

# What stays float is decided first, then who is quantized, then who shares a scale with whom. Pooling before residual:
# an Add that a pooling reads looks for its site.
RULES = (
    keep_named, plugin, loops, logarithm, squeeze, head, tiny, attention, fold, integer, weighted, pooling, residual,
    share,
)  # fmt: skip


def place(view: GraphView, options: PlacementOptions | None = None) -> Plan:
    """Decide where Q/DQ goes in `view`. Raises QuantbenchError for a pattern that matches no node."""
    options = options or PlacementOptions()
    draft = Draft()
    for rule in RULES:
        rule.apply(view, draft, options)
    return draft.plan()
