"""Finding: one piece of advice."""

from dataclasses import dataclass

from quantbench.json_types import JsonObject

_KILO, _MEGA = 10**3, 10**6


def size(count: int) -> str:
    """Bytes as people read them: 512 B, 12.3 kB, 4.56 MB."""
    if count < _KILO:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < _MEGA else f"{count / 1e6:.2f} MB"


@dataclass(frozen=True, slots=True)
class Finding:
    """`rule` found something at ONNX node `node`; it costs `cost` bytes of traffic an inference (0 where it is not a
    matter of bytes), `message` says what, `mend` what to do. `fixable`: `lint --fix` does it, without new ranges.
    `chosen`: the placement rules weighed it and left it so."""

    rule: str
    node: str
    cost: int
    message: str
    mend: str
    fixable: bool = False
    chosen: bool = False

    def line(self) -> str:
        """The finding on one line."""
        cost = f" ({size(self.cost)})" if self.cost else ""
        tail = " [--fix]" if self.fixable else ""
        return f"{self.node}: {self.rule}{cost}: {self.message}; {self.mend}{tail}"

    def to_json(self) -> JsonObject:
        """Plain data."""
        return {"rule": self.rule, "node": self.node, "cost_bytes": self.cost, "message": self.message,
                "mend": self.mend, "fixable": self.fixable}  # fmt: skip
