"""Plan: what the placement rules decide, as plain data, and what both inserters (ONNX, torch) carry out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# As the node of a site: the site is an output of the network, its index the place among the outputs.
OUTPUT = ""
# The rule that places for onnxruntime.
INTEGER = "integer"


@dataclass(frozen=True, slots=True)
class ActivationSite:
    """A Q/DQ pair on the edge from `tensor` to input `index` of `node`.

    Sites of one `group` share one scale (concat inputs, data movers). Sites of one tensor share one Q and DQ. `alone`:
    the node reads what the Q writes, an INT8 tensor, and no DQ (a plugin that takes INT8).
    """

    tensor: str
    node: str
    index: int
    group: str
    rule: str
    alone: bool = False


@dataclass(frozen=True, slots=True)
class WeightSite:
    """Per-channel Q/DQ on constant `tensor` at input `index` of `node`; `axis` is None for per-tensor."""

    tensor: str
    node: str
    index: int
    axis: int | None
    rule: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rule `rule` looked at `node` and left it alone, for `reason`."""

    rule: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Where Q/DQ goes. `kept_float` maps a weighted node that stays float to the reason (rule and why); `refusals` say
    why a rule that quantizes passed a node by. `folded`: nodes that go into the conv before them, in this order."""

    activations: tuple[ActivationSite, ...] = ()
    weights: tuple[WeightSite, ...] = ()
    kept_float: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = field(default=(), compare=False)
    folded: tuple[str, ...] = ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """Activation tensors that carry Q/DQ, each once, in order."""
        return tuple(dict.fromkeys(site.tensor for site in self.activations))

    @property
    def for_onnxruntime(self) -> bool:
        """Whether it is placed for onnxruntime's integer kernels (rule `integer`)."""
        return any(site.rule == INTEGER for site in self.activations)
