"""Who makes and who reads each tensor of an engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from quantbench.layers.layer import Layer


@dataclass(frozen=True)
class Flow:
    """Edges between layers, by tensor name, which holds the profile in a multi-profile engine."""

    makers: dict[str, Layer] = field(default_factory=dict)
    readers: dict[str, list[Layer]] = field(default_factory=dict)

    @staticmethod
    def of(layers: Sequence[Layer]) -> "Flow":
        """Edges of `layers` in execution order; a tensor written in parts (Concat in place) has its last writer."""
        flow = Flow()
        for layer in layers:
            for tensor in layer.outputs:
                flow.makers[tensor.name] = layer
            for tensor in layer.inputs:
                flow.readers.setdefault(tensor.name, []).append(layer)
        return flow

    def maker(self, tensor: str) -> Layer | None:
        """The layer that writes `tensor`, None for an engine input."""
        return self.makers.get(tensor)

    def after(self, layer: Layer) -> tuple[Layer, ...]:
        """Layers that read an output of `layer`, each once, in order."""
        found = [r for t in layer.outputs for r in self.readers.get(t.name, ())]
        return tuple({id(r): r for r in found}.values())

    def before(self, layer: Layer) -> tuple[Layer, ...]:
        """Layers that make an input of `layer`."""
        found = [m for t in layer.inputs if (m := self.maker(t.name)) is not None]
        return tuple({id(m): m for m in found}.values())
