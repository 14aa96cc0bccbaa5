"""Draft: the Plan while the rules write it."""

from dataclasses import dataclass, field

from quantbench.graph.view import NodeView
from quantbench.qdq.plan import OUTPUT, ActivationSite, Plan, Refusal, WeightSite


@dataclass
class Draft:
    """Sites by (node, input index), those of them with a Q `alone`, nodes kept float with the reason, and tensors that
    must share one scale. `along`: nodes quantized because what is around them is, for whose sake nothing else is.
    `folded`: nodes that go into the conv before them."""

    activations: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    alone: set[tuple[str, int]] = field(default_factory=set)
    weights: dict[tuple[str, int], WeightSite] = field(default_factory=dict)
    kept_float: dict[str, str] = field(default_factory=dict)
    along: set[str] = field(default_factory=set)
    refusals: list[Refusal] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    _parent: dict[str, str] = field(default_factory=dict)

    def quantize(self, node: NodeView, index: int, rule: str) -> None:
        """Ask for Q/DQ on input `index` of `node`; the first rule to ask is the one that is named."""
        self.activations.setdefault((node.name, index), (node.inputs[index], rule))

    def quantize_alone(self, node: NodeView, index: int, rule: str) -> None:
        """Ask for a Q and no DQ on input `index` of `node`."""
        self.quantize(node, index, rule)
        self.alone.add((node.name, index))

    def quantize_output(self, tensor: str, place: int, rule: str) -> None:
        """Ask for Q/DQ on `tensor`, the output of the network at `place`."""
        self.activations.setdefault((OUTPUT, place), (tensor, rule))

    def refuse(self, node: NodeView, rule: str, reason: str) -> None:
        """Note why `rule` leaves `node` alone."""
        self.refusals.append(Refusal(rule, node.name, reason))

    def share(self, first: str, second: str) -> None:
        """Give two tensors one scale."""
        self._parent[self.group(second)] = self.group(first)

    def group(self, tensor: str) -> str:
        """Representative of the tensors that share a scale with `tensor`."""
        root = tensor
        while self._parent.get(root, root) != root:
            root = self._parent[root]
        while self._parent.get(tensor, tensor) != root:
            self._parent[tensor], tensor = root, self._parent.get(tensor, tensor)
        return root

    def plan(self) -> Plan:
        """The finished Plan; groups are named after their first tensor in site order."""
        named: dict[str, str] = {}
        sites = []
        for (node, index), (tensor, rule) in self.activations.items():
            group = named.setdefault(self.group(tensor), tensor)
            sites.append(ActivationSite(tensor, node, index, group, rule, (node, index) in self.alone))
        return Plan(
            tuple(sites), tuple(self.weights.values()), dict(self.kept_float), tuple(self.refusals), tuple(self.folded)
        )
