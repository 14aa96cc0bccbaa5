"""Verdict: one finding about an engine, what causes it, what it costs, what to do."""

import re
from dataclasses import dataclass
from typing import Literal

from quantbench.json_types import JsonObject
from quantbench.layers.layer import Layer
from quantbench.layers.names import reformat_target

_UNNAMED = re.compile(r"\(Unnamed Layer\* (\d+)\) \[([\w ]+)\]")
_PROFILE = re.compile(r" \[profile \d+\]")
Severity = Literal["problem", "cost", "note"]


@dataclass(frozen=True, slots=True)
class Item:
    """One layer (or tensor) that a verdict is about; `detail` says what is so and why, `time_ms` what it takes."""

    name: str
    detail: str
    time_ms: float | None = None

    def to_json(self) -> JsonObject:
        """Plain data for `inspect.json`."""
        return {"name": self.name, "detail": self.detail, "time_ms": self.time_ms}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding. `rule` is the file's name; `advice` is one sentence, "" where there is nothing to do."""

    rule: str
    severity: Severity
    title: str
    why: str
    advice: str = ""
    items: tuple[Item, ...] = ()

    @property
    def time_ms(self) -> float | None:
        """Mean time in ms of the layers concerned, None without a profile."""
        times = [item.time_ms for item in self.items if item.time_ms is not None]
        return sum(times) if times else None

    def to_json(self) -> JsonObject:
        """Plain data for `inspect.json`."""
        return {
            "rule": self.rule, "severity": self.severity, "title": self.title, "why": self.why,
            "advice": self.advice, "time_ms": self.time_ms, "items": [item.to_json() for item in self.items],
        }  # fmt: skip


def count(number: int, one: str, many: str = "") -> str:
    """ "1 layer", "3 layers"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def runs(number: int, one: str) -> str:
    """ "1 layer runs", "3 layers run"."""
    return f"{count(number, one)} {'runs' if number == 1 else 'run'}"


def short(layer: Layer) -> str:
    """The ONNX nodes of a layer that a reader knows it by, Q and DQ left out; the layer's name where it has none, with
    `(Unnamed Layer* 9) [ElementWise]` cut down to `ElementWise#9`."""
    nodes = [n for n in layer.nodes if "QuantizeLinear" not in n and "DequantizeLinear" not in n]
    return " + ".join(nodes) or _UNNAMED.sub(r"\2#\1", layer.name)


def label(layer: Layer) -> str:
    """As `short`; a reformat, which carries the name of the layer that it serves, says that it is a copy for it, and
    layers of a multi-profile engine say for which profile they are."""
    profile = _PROFILE.search(layer.name)
    name = short(layer)
    if reformat_target(layer.name) is not None:
        name = f"copy {'behind' if ' Output Tensor ' in layer.name else 'before'} {name}"
    return name + (profile.group() if profile and not name.endswith("]") else "")
