"""Placement by search: the variants of a Plan, tried against the predictor."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from quantbench.graph.ops import AVERAGES
from quantbench.graph.view import GraphView, NodeView
from quantbench.predict.cost import cost_of, moved_bytes
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict
from quantbench.predict.versions import DEFAULT
from quantbench.predict.with_qdq import with_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import ActivationSite, Plan

_FLOATS = ("FP32", "FP16", "BF16")
RULE = "best"
_SWITCHES: dict[str, Callable[[PlacementOptions], PlacementOptions]] = {
    "residual": lambda options: replace(options, residual=not options.residual),
    "pooling": lambda options: replace(options, pooling=not options.pooling),
    "add_both": lambda options: replace(options, add_both=not options.add_both),
    "tiny_anywhere": lambda options: replace(options, tiny_anywhere=not options.tiny_anywhere),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One variant: what was changed, and its cost (`cost_of`). `taken` where the search went on from it."""

    change: str
    cost: float
    taken: bool


@dataclass(frozen=True, slots=True)
class BestPlacement:
    """The plan of least cost, its prediction and all that was tried."""

    plan: Plan
    prediction: Prediction
    cost: float
    trials: tuple[Trial, ...]


def best_placement(
    view: GraphView,
    options: PlacementOptions | None = None,
    *,
    version: str = DEFAULT,
    gpu: str = "",
    cost: Callable[[Prediction], float] | None = None,
) -> BestPlacement:
    """Try variants of the placement of `view` and return the one that costs least in float tensors and kernels.

    Where a rule has a choice: pooling or not, residual inputs or not, tiny convs in mid-network or not, everywhere;
    then each Add on its own (the one input, the other, both, none), each average pooling (float, its input quantized,
    its output too), and each weighted layer whose Q is left over and whose output is float anyway, which may stay float
    altogether if that moves fewer bytes too (its arithmetic gets slower). One change is kept at a time, if it is
    cheaper. What `options` keeps float stays so. Cost: `quantbench.predict.cost`, or `cost`, as ms on a device
    (`quantbench.latency.facts.device_cost`). Deterministic; the first of equal variants wins. The plan may hold tensors
    that the rules' plan does not: search before calibrating.
    """
    options = options or PlacementOptions()
    search = _Search(view, version, gpu, cost or cost_of)
    search.offer("the rules as they are", place(view, options))
    for switch, turn in _SWITCHES.items():
        changed = turn(options)
        if search.offer(f"{switch} turned over", place(view, changed)):
            options = changed
    for node in view.nodes:
        if node.op == "Add" and len(node.inputs) == 2 and not any(view.is_constant(t) for t in node.inputs):
            for what, plan in _add_variants(search.plan, node.name, node.inputs):
                search.offer(f"{node.name}: {what}", plan)
    for pool in [
        n for n in view.nodes if n.op in AVERAGES and len(n.inputs) >= 1 and not view.is_constant(n.inputs[0])
    ]:
        for what, plan in _pool_variants(search.plan, view, pool):
            search.offer(f"{pool.name}: {what}", plan)
    for node_name in _lonely(search):
        search.offer(f"{node_name}: float", _without(search.plan, node_name), fewer_bytes=True)
    assert search.best is not None
    return BestPlacement(search.plan, search.best, search.cost, tuple(search.trials))


class _Search:
    """The best plan so far."""

    def __init__(self, view: GraphView, version: str, gpu: str, measure: Callable[[Prediction], float]) -> None:
        self.view, self.version, self.gpu, self.measure = view, version, gpu, measure
        self.plan = Plan()
        self.best: Prediction | None = None
        self.cost: float = 0
        self.trials: list[Trial] = []

    def offer(self, change: str, plan: Plan, *, fewer_bytes: bool = False) -> bool:
        """Whether `plan` is the best so far; with `fewer_bytes` it must be so in bytes alone, too."""
        if self.best is not None and plan == self.plan:
            return False
        quantized, scales = with_qdq(self.view, plan)
        prediction = predict(quantized, version=self.version, gpu=self.gpu, scales=scales)
        cost = self.measure(prediction)
        taken = self.best is None or cost < self.cost
        if taken and fewer_bytes and self.best is not None:
            taken = moved_bytes(prediction) <= moved_bytes(self.best)
        self.trials.append(Trial(change, cost, taken))
        if taken:
            self.plan, self.best, self.cost = plan, prediction, cost
        return taken


def _add_variants(plan: Plan, node: str, inputs: tuple[str, ...]) -> Iterator[tuple[str, Plan]]:
    for wanted, what in (((0,), "input 0"), ((1,), "input 1"), ((0, 1), "both inputs"), ((), "float")):
        yield what, _with_sites(plan, node, {index: inputs[index] for index in wanted})


def _pool_variants(plan: Plan, view: GraphView, pool: NodeView) -> Iterator[tuple[str, Plan]]:
    """Float; INT8 in; and, so that the pooling itself computes in INT8 although nothing behind it does, INT8 out."""
    yield "float", _without(plan, pool.name)
    yield "input", _with_sites(plan, pool.name, {0: pool.inputs[0]})
    both = _with_sites(plan, pool.name, {0: pool.inputs[0]})
    for reader, index in view.readers(pool.outputs[0]):
        if index < 0:
            continue  # in a body, where nothing is quantized
        others = {s.index: s.tensor for s in both.activations if s.node == reader.name}
        both = _with_sites(both, reader.name, others | {index: pool.outputs[0]})
    yield "input and output", both


def _with_sites(plan: Plan, node: str, wanted: dict[int, str]) -> Plan:
    """`plan` with exactly the `wanted` inputs of `node` quantized; a tensor keeps the scale group that it has."""
    groups = {site.tensor: site.group for site in plan.activations}
    have = {site.index for site in plan.activations if site.node == node}
    kept = tuple(s for s in plan.activations if s.node != node or s.index in wanted)
    added = tuple(
        ActivationSite(tensor, node, index, groups.get(tensor, tensor), RULE)
        for index, tensor in wanted.items()
        if index not in have
    )
    return replace(plan, activations=kept + added)


def _without(plan: Plan, node: str) -> Plan:
    """`plan` with `node` in float."""
    weighted = any(site.node == node for site in plan.weights)
    kept = dict(plan.kept_float) | ({node: "best: INT8 would only add conversions"} if weighted else {})
    return replace(
        plan,
        activations=tuple(s for s in plan.activations if s.node != node),
        weights=tuple(s for s in plan.weights if s.node != node),
        kept_float=kept,
    )


def _lonely(search: _Search) -> list[str]:
    """Weighted layers that read a left-over Q alone and write float."""
    assert search.best is not None
    readers: dict[str, int] = {}
    made_by_q: dict[str, str] = {}
    for layer in search.best.layers:
        for tensor in layer.inputs:
            readers[tensor.name] = readers.get(tensor.name, 0) + 1
        if layer.origin == "QDQ":
            made_by_q.update((t.name, layer.name) for t in layer.outputs)
    planned = {site.node for site in search.plan.weights}
    return [
        layer.nodes[0]
        for layer in search.best.layers
        if layer.nodes
        and layer.nodes[0] in planned
        and layer.inputs
        and layer.inputs[0].name in made_by_q
        and readers[layer.inputs[0].name] == 1
        and all(t.dtype in _FLOATS for t in layer.outputs)
    ]
