"""Leave in float what a logarithm reads: filter banks of spectrograms, mel matrices, constant-Q transforms.

INT8 errs by about half a step wherever a value lies in its range. Log(x) turns an error e of x into e / x: what is a
thousandth of the range errs by its own size, and the quiet bins of a spectrum, which a Log is there to show, come out
as noise. No choice of scale helps, for the range is that of the loudest. Measured on basic-pitch's detector of notes
(18 convs of a constant-Q transform): 16 dB with them in INT8, 37 without (docs/accuracy.md); ModelOpt quantizes none of
them either. A bank behind another (a mel matrix behind the convs of a Fourier transform) errs no less: both are linear.

A Log that undoes what is before it shows nothing so: ln(sigmoid(x)) and ln(softmax(x)) are no steeper than x, nor are
those of Exp, Softplus, Tanh, Elu and Erf, which near their bounds fall off as exp does. So likelihoods, the inverse
sigmoids of DETRs and LogSoftmax keep no layer in float. ln(1 + x) is no steeper than x either, but 1 and 1e-10 look
alike in a graph without values, and ln(1 + 10000 x) is as steep as any.

Rules:
1. a weighted op stays float whose output a Log reads past operators on each element, reductions and moves
2. so does one that feeds it past the same, but no activation
3. not past Sigmoid, Softmax, Exp and the like, which a Log undoes

Before and after:
    x --> Q/DQ ==> bank --> square --> sum --> Log     x --> bank --> square --> sum --> Log
"""

from quantbench.graph.ops import ACTIVATIONS, AVERAGES, POINTWISE, REDUCTIONS, UNDONE_BY_LOG, WEIGHTED
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import is_mover, weight_index
from quantbench.qdq.options import PlacementOptions

RULE = "logarithm"
_LOGS = frozenset({"Log", "ReduceLogSum"})
_PASSED = (POINTWISE | AVERAGES | REDUCTIONS | {"Concat", "Pad", "Resize", "Cast", "Where"}) - UNDONE_BY_LOG
_SHOWN = f"{RULE}: a Log shows what INT8 does to the small values that it writes"
_FEEDS = f"{RULE}: feeds a layer that a Log reads, with no activation between"


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Keep in float the weighted ops that a Log reads, and the linear ones before them."""
    if not options.log_float:
        return
    shown: set[str] = set()  # tensors that a Log reads past what neither computes with weights nor is undone
    feeding: set[str] = set()  # those that a layer which a Log reads takes, past what is no activation
    for node in reversed(view.nodes):
        read = _data(view, node)
        if node.op in _LOGS:
            shown.update(read)
        is_shown, feeds = (not found.isdisjoint(node.outputs) for found in (shown, feeding))
        if not is_shown and not feeds:
            continue
        if node.op in WEIGHTED:
            draft.kept_float.setdefault(node.name, _SHOWN if is_shown else _FEEDS)
            # A product of two activations is no bank: what goes into it is an attention's, say.
            if weight_index(view, node) is not None:
                feeding.update(read)
        elif node.op in _PASSED or is_mover(node):
            if is_shown:
                shown.update(read)
            if feeds and node.op not in ACTIVATIONS:
                feeding.update(read)


def _data(view: GraphView, node: NodeView) -> tuple[str, ...]:
    """Activations that `node` computes its values from: not shapes, indices, paddings and conditions."""
    first, last = (
        (1, None) if node.op == "Where" else (0, 1 if is_mover(node) or node.op in ("Pad", "Resize") else None)
    )
    return tuple(name for name in node.inputs[first:last] if name and not view.is_constant(name))
