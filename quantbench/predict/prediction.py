"""Prediction: what the simulation hands out, as plain data."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from quantbench.inspection.fate import Fate
from quantbench.json_types import JsonObject
from quantbench.layers.layer import Layer
from quantbench.predict.net import Step


@dataclass(frozen=True, slots=True)
class FloatWeighted:
    """A weighted layer that computes in float, or takes INT8 and writes float although INT8 follows.

    `node` is its ONNX node, `reason` why, `mend` the nearest change of placement that would help.
    `tensor`: what it writes, where that is the matter.
    """

    node: str
    reason: str
    mend: str
    tensor: str = ""

    def to_json(self) -> dict[str, str]:
        """Plain data."""
        return {"node": self.node, "reason": self.reason, "mend": self.mend}


@dataclass(frozen=True, slots=True)
class Prediction:
    """The engine that TensorRT is predicted to build from a Q/DQ network.

    `fates` of all Q and DQ; `float_weighted`: weighted layers that stay float; `float_outputs`: INT8 layers that write
    float where a Q follows; `float_bytes`: bytes moved by float tensors between INT8 layers (each tensor written once
    and read once a reader); `fate_confidence`: Q or DQ to seen, seen in another version or guess (layers carry theirs
    in `attributes`); `fate_guesses`: those of guesses, to what no log or engine at hand shows; `version_guesses`: what
    is carried over from another version; `headline`: how far the version is backed by evidence; `steps`: the
    optimizer's passes; `fp16`: whether the build may use FP16 kernels; `gpu`: "" or the compute capability, as sm87.
    """

    version: str
    layers: tuple[Layer, ...]
    fates: tuple[Fate, ...]
    float_weighted: tuple[FloatWeighted, ...]
    float_outputs: tuple[FloatWeighted, ...]
    float_bytes: int
    steps: tuple[Step, ...]
    fate_confidence: Mapping[str, str] = field(default_factory=dict)
    fate_guesses: Mapping[str, str] = field(default_factory=dict)
    version_guesses: tuple[str, ...] = ()
    fp16: bool = True
    gpu: str = ""
    headline: str = ""

    @property
    def guesses(self) -> dict[str, str]:
        """Layers of which no log or engine at hand shows what was done to them, with what that is."""
        return {layer.name: str(layer.attributes["guess"]) for layer in self.layers if "guess" in layer.attributes}

    @property
    def confidence(self) -> dict[str, int]:
        """How many layers are seen, seen in another version, or a guess."""
        return dict(Counter(str(layer.attributes["confidence"]) for layer in self.layers))

    @property
    def reformats(self) -> tuple[Layer, ...]:
        """Layers that only change precision or copy."""
        return tuple(layer for layer in self.layers if layer.type == "Reformat")

    @property
    def leftover(self) -> tuple[Fate, ...]:
        """Q and DQ that became a kernel of their own."""
        return tuple(fate for fate in self.fates if fate.status == "left over")

    @property
    def in_place(self) -> dict[str, int]:
        """How many concats and slices vanish, written or read in place, and how many copies the concats need."""
        counts = {"concats": 0, "slices": 0, "copies": 0}
        for step in self.steps:
            if step.name == "Eliminating concatenation":
                counts["copies" if step.what == "copy" else "concats"] += 1
            elif step.name == "Eliminating slice":
                counts["slices"] += 1
        return counts

    @property
    def int8_layers(self) -> int:
        """Weighted layers that compute in INT8, those inside Myelin counted."""
        own = sum(1 for layer in self.layers if layer.attributes.get("int8"))
        return own + sum(layer.number("int8_inside") for layer in self.layers)

    def to_json(self) -> JsonObject:
        """Plain data for `predict --json`."""
        return {
            "for": f"TensorRT {self.version}", "gpu": self.gpu, "fp16": self.fp16, "headline": self.headline,
            "confidence": self.confidence,
            "layers": [layer.to_json() for layer in self.layers],
            "fates": [self._fate(fate) for fate in self.fates],
            "reformats": len(self.reformats), "left_over": len(self.leftover), "int8_layers": self.int8_layers,
            "float_weighted": [f.to_json() for f in self.float_weighted],
            "float_outputs": [f.to_json() for f in self.float_outputs],
            "float_bytes": self.float_bytes, "in_place": self.in_place,
            "guesses": dict(self.guesses), "version_guesses": list(self.version_guesses),
            "steps": [{"pass": s.name, "what": s.what, "target": s.target, "others": list(s.others)}
                      for s in self.steps],
        }  # fmt: skip

    def _fate(self, fate: Fate) -> JsonObject:
        told = {"confidence": self.fate_confidence.get(fate.name, ""), "guess": self.fate_guesses.get(fate.name, "")}
        return fate.to_json() | {key: value for key, value in told.items() if value}
