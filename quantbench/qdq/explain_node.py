"""Why a node is or is not quantized: what each rule said of it, and what TensorRT does with its operator."""

from collections.abc import Iterator

from quantbench.errors import QuantbenchError
from quantbench.graph.ops import OPERATORS, Evidence
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.plan import Plan
from quantbench.qdq.rulebook import rulebook

_NEAR = 5


def find_node(view: GraphView, name: str) -> NodeView:
    """The node called `name`, or the one that writes a tensor of that name. Raises QuantbenchError for neither."""
    inner = [found.node for found in view.inner]
    node = next((node for node in (*view.nodes, *inner) if node.name == name), None) or view.producers.get(name)
    if node is not None:
        return node
    near = [node.name for node in (*view.nodes, *inner) if name.lower() in node.name.lower()][:_NEAR]
    hint = f"did you mean {', '.join(near)}?" if near else f"names look like {view.nodes[0].name!r}"
    raise QuantbenchError(f"the model has no node {name!r}; {hint}")


def explained(view: GraphView, plan: Plan, node: NodeView) -> Iterator[str]:
    """Lines: the operator, what the rules decided, each with its numbered rules."""
    yield f"{node.name}: {node.op}, reads {', '.join(n for n in node.inputs if n)}"
    spoke: list[str] = []
    for site in plan.activations:
        if site.node == node.name:
            shared = f", one scale with {site.group}" if site.group != site.tensor else ""
            yield f"{'Q' if site.alone else 'Q/DQ'} on input {site.index}, {site.tensor} ({site.rule}{shared})"
            spoke.append(site.rule)
    for weight in plan.weights:
        if weight.node == node.name:
            axis = "per tensor" if weight.axis is None else f"per channel on axis {weight.axis}"
            yield f"Q/DQ on weight {weight.tensor}, {axis} ({weight.rule})"
            spoke.append(weight.rule)
    if node.name in plan.kept_float:
        yield f"stays float: {plan.kept_float[node.name]}"
        spoke.append(plan.kept_float[node.name].partition(":")[0])
    if node.name in plan.folded:
        yield "goes into the conv before it (fold)"
        spoke.append("fold")
    for refusal in plan.refusals:
        if refusal.node == node.name:
            yield f"not quantized by rule {refusal.rule}: {refusal.reason}"
            spoke.append(refusal.rule)
    if not spoke:
        yield "no rule speaks of it: Q/DQ stands where weighted ops, skip connections and averages read"
    yield _of_operator(node)
    book = rulebook()
    for name in dict.fromkeys(spoke):
        for number, text in enumerate(book[name].numbered if name in book else (), start=1):
            yield f"{name} {number}: {text}"


def _of_operator(node: NodeView) -> str:
    row = OPERATORS.get(node.op)
    if row is None:
        return f"{node.op} is not in the operator table: it computes in float"
    does = ["INT8 kernels"] if row.int8 else ["no INT8 kernel of its own"]
    if row.swaps is not Evidence.NO:
        does.append("Q and DQ move past it")
    if row.fuses is not Evidence.NO:
        does.append("goes into the weighted layer before it")
    return f"{node.op} in TensorRT: {row.kind.value}; {', '.join(does)} (source: {row.source})"
